"""The store on a Redis Cluster."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import count
from typing import Any, Final, Self

import redis.asyncio.connection as driver
from redis.asyncio import RedisCluster

from aioresult.errors import InvalidTaskId, SettingsError, StoreUnavailable
from aioresult.partly import PartlyUnavailable
from aioresult.record import Record, ResultTree
from aioresult.settings import Settings
from aioresult.stores.redis.clusterfeed import ClusterFeed
from aioresult.stores.redis.connect import Address, clients_options
from aioresult.stores.redis.errors import is_withheld
from aioresult.stores.redis.router import Place, Router
from aioresult.stores.redis.scripts import CLASSIC, SHARDED
from aioresult.stores.redis.servers import QUESTIONS, details
from aioresult.stores.redis.store import RedisStore
from aioresult.stores.redis.streams import StreamStore, sharing_slot
from aioresult.stores.redis.urls import connection_of, database, hosts, query_options, split
from aioresult.stores.redis.wire import Reply, pack
from aioresult.stores.redis.writes import Write

_FALSE: Final = ("0", "false", "no", "off")


class RedisClusterStore(RedisStore):
    """Results on a Redis Cluster, under Celery's keys; each is announced by the node that holds it.

    Our writers publish to sharded channels, which concern only one node and its replicas. Feeds subscribe to these and
    to the classic channels, so that Celery's workers wake waiters too (through a proxy, since Celery does not support
    clusters). With ``?sharded=false`` our writers use classic channels: for clusters before Redis 7, and for Celery's
    clients.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        StreamStore.__init__(self, url, settings)
        parts = split(url)
        options = query_options(parts)
        sharded = str(options.pop("sharded", "true")).lower() not in _FALSE
        if database(options, parts.path, settings):
            raise SettingsError("a Redis Cluster has no database but 0")
        places = [(host or "localhost", port or 6379) for host, port in hosts(parts.netloc)]
        connection_class, options = connection_of(parts, options, settings)
        self._connect_to(places or [("localhost", 6379)], connection_class, options, sharded=sharded)

    @classmethod
    def from_client(cls, client: object, settings: Settings) -> Self:
        """Return a store with its own connections, which have the options of ``client``, a ``RedisCluster``."""
        if not isinstance(client, RedisCluster):
            raise SettingsError(
                f"expected a URL or a redis.asyncio.RedisCluster, not {type(client).__module__}."
                f"{type(client).__name__}; a blocking client would stop the event loop"
            )
        nodes: list[Any] = list(client.nodes_manager.startup_nodes.values())
        store = cls.__new__(cls)
        StreamStore.__init__(store, "redis+cluster://", settings)
        store._made_from = client
        places = [(node.host, int(node.port)) for node in nodes]
        options = clients_options(nodes[0].connection_kwargs)
        store._connect_to(places, nodes[0].connection_class, options, sharded=True)
        return store

    def _connect_to(
        self,
        places: Sequence[Place],
        connection_class: type[driver.AbstractConnection],
        options: Mapping[str, Any],
        *,
        sharded: bool,
    ) -> None:
        self.location = ",".join(f"{host}:{port}" for host, port in places) + " (cluster)"
        self._sharded = sharded
        self._scripts = SHARDED if sharded else CLASSIC

        def address_of(place: Place) -> Address:
            return Address(connection_class, {**options, "host": place[0], "port": place[1]}, self.settings)

        address_of(places[0]).check()
        self._router = Router(places, address_of, self.location, self._count)

    async def _run(self, commands: Sequence[tuple[str, bytes]], *, once: bool = False) -> list[Reply]:
        return await self._router.run(commands, once=once)

    def _stream_key(self, task_id: str) -> str:
        """Return a key in the same slot as the record's, since one script uses both.

        Raises:
            InvalidTaskId: no such key exists.
        """
        return sharing_slot(self._prefix + task_id, super()._stream_key(task_id), task_id)

    def _server_of(self, key: str) -> Hashable:
        return self._router.place_of(key)

    def _outcomes(self, writes: Sequence[Write]) -> Sequence[bool]:
        if any(write.failure for write in writes):
            _tell_apart({write.record.id: write.failure or write.written for write in writes})
        return super()._outcomes(writes)

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Read by one ``GET`` for each id, in one buffer for each node."""
        keys = [self._prefix + task_id for task_id in ids]
        replies = await self._run([(key, pack("GET", key)) for key in keys])
        records: dict[str, Record] = {}
        for task_id, reply in zip(ids, replies, strict=True):
            if type(reply) is bytes and reply:  # an empty value is not a result, as in Celery
                records[task_id] = self.codec.decode_record(task_id, reply)
        self._check_all(ids, replies, records)
        return records

    def _check_all(self, ids: Sequence[str], replies: Sequence[Reply], records: Mapping[str, Record]) -> None:
        """Raise the errors among ``replies``, with the answers of the other nodes."""
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        for error in errors:
            if not isinstance(error, StoreUnavailable):
                self._checked(error)
        if errors:
            outcomes = zip(ids, replies, strict=True)
            _tell_apart({i: each if isinstance(each, Exception) else records.get(i) for i, each in outcomes})

    async def delete_many(self, ids: Sequence[str]) -> None:
        """Delete by one ``DEL`` for each id, in one buffer for each node."""
        commands = [(self._prefix + task_id, pack("DEL", *self._keys(task_id))) for task_id in ids]
        self._check_all(ids, await self._run(commands), {})

    def _keys(self, task_id: str) -> list[str]:
        key = self._prefix + task_id
        try:
            return [key, self._stream_key(task_id)]
        except InvalidTaskId:  # this task cannot have a stream
            return [key]

    async def open_feed(self) -> ClusterFeed:
        """Open a feed, which connects to nodes as it needs them."""
        await self._router.topology()
        return ClusterFeed(self._router, self._source, self._stream_key, sharded=self._sharded)

    async def put_group(self, group_id: str, tree: ResultTree) -> None:
        """Save a group. It is not announced, because only Celery listens for groups, and not in a cluster."""
        key = self._group_prefix + group_id
        await self._ask(key, *self._set(key, self.codec.encode_group(tree)))

    async def _probes(self) -> Sequence[str]:
        """Return an id for each primary, since each has its own users and rights."""
        topology = await self._router.topology()
        found: dict[Place, str] = {}
        for number in count():
            task_id = f"aioresult-probe-{number}"
            found.setdefault(topology.owner(self._prefix + task_id), task_id)
            if len(found) == len(topology.primaries):
                break
        return list(found.values())

    def _mechanism(self) -> tuple[str, str]:
        kind = "sharded" if self._sharded else "classic"
        mechanism = f"Redis Cluster {kind} pub/sub (RESP{self._router.resp}, one connection per node)"
        return mechanism, "" if self._sharded else "the URL asks for sharded=false"

    async def _facts(self) -> dict[str, str]:
        info, policy = await self._run([(self._prefix, command) for command in QUESTIONS])
        found = details(info if is_withheld(info) else self._checked(info), policy, self._router.resp)
        found["primaries"] = ", ".join(f"{host}:{port}" for host, port in (await self._router.topology()).primaries)
        return found

    async def aclose(self) -> None:
        await self._router.aclose()


def _tell_apart(outcomes: Mapping[str, object]) -> None:
    """Raise ``StoreUnavailable`` if all ``outcomes`` (by id) are such errors, ``PartlyUnavailable`` if some are."""
    for outcome in outcomes.values():
        if isinstance(outcome, StoreUnavailable):
            known = {task_id: each for task_id, each in outcomes.items() if not isinstance(each, StoreUnavailable)}
            raise PartlyUnavailable(outcome, known) if known else outcome
