"""The store on one Redis server, with Celery's keys, channels and payloads."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from hashlib import sha1
from typing import Self

from redis.asyncio import RedisCluster

from aioresult.abc import Capabilities
from aioresult.errors import SettingsError, StoreUnavailable
from aioresult.record import Record
from aioresult.settings import Settings
from aioresult.stores.notices import warn_once
from aioresult.stores.redis.connect import Address, from_client
from aioresult.stores.redis.errors import ServerError, is_withheld
from aioresult.stores.redis.feed import EventFeed, RedisFeed, Source, chunks
from aioresult.stores.redis.link import Link
from aioresult.stores.redis.servers import QUESTIONS, details, is_in_cluster
from aioresult.stores.redis.streams import StreamStore
from aioresult.stores.redis.urls import from_url
from aioresult.stores.redis.wire import Reply, pack
from aioresult.stores.redis.writes import Write, write_of


class RedisStore(StreamStore):
    """Results on Redis (or Valkey, or another server with its protocol), under the same keys and in the same format as
    Celery.

    A record's key is also its channel, and the message is the record itself. Channels, unlike keys, do not belong to a
    database: applications that share a server must not share task ids, even in different databases. (Random ids never
    collide; for chosen ids there is ``global_keyprefix``.)
    """

    lanes = 2

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._use(from_url(url, settings))

    @classmethod
    def from_client(cls, client: object, settings: Settings) -> Self:
        """Return a store with its own connections, which have the options of ``client``, a ``redis.asyncio.Redis``."""
        if isinstance(client, RedisCluster):
            raise SettingsError(
                "expected a client of one server, not of a cluster: hand it to Backend, or to RedisClusterStore"
            )
        store = cls.__new__(cls)
        StreamStore.__init__(store, "redis://", settings)
        store._made_from = client
        store._use(from_client(client, settings))
        return store

    def _use(self, address: Address) -> None:
        address.check()
        self.location = address.location
        self._address = address
        self._link = Link(address, self._count)

    @cached_property
    def _source(self) -> Source:
        return Source(self.settings.keyprefix, self.codec.decode_record, self._count)

    def _count(self, commands: int) -> None:
        self.commands += commands

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Read by one ``MGET`` (for very many ids, by several in one buffer)."""
        parts = list(chunks(ids))
        prefix, decode = self._prefix, self.codec.decode_record
        commands = [pack("MGET", *[prefix + task_id for task_id in part]) for part in parts]
        records: dict[str, Record] = {}
        for part, reply in zip(parts, await self._link.call(commands), strict=True):
            for task_id, payload in zip(part, self._list(reply), strict=True):
                if payload:  # an empty value is not a result, as in Celery
                    records[task_id] = decode(task_id, payload)
        return records

    async def _run(self, commands: Sequence[tuple[str, bytes]], *, once: bool = False) -> list[Reply]:
        return await self._link.call([command for _, command in commands], once=once)

    def _server_of(self, key: str) -> Hashable:
        """Return a value that identifies the server that holds ``key``."""
        return None

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        """Write each record by one script call, all in one buffer; call again where an old value must be decoded."""
        writes = [self._write(record) for record in records]
        pending = writes
        while pending:
            replies = await self._run([(write.key, write.packed()) for write in pending])
            pending = self._settle(pending, replies)
        return self._outcomes(writes)

    def _outcomes(self, writes: Sequence[Write]) -> Sequence[bool]:
        return [write.written for write in writes]

    def _write(self, record: Record) -> Write:
        payload, ttl = self.codec.encode_record(record), self.settings.expires_for(record.status)
        return write_of(record, self._prefix + record.id, payload, ttl, self._scripts)

    def _settle(self, writes: list[Write], replies: list[Reply]) -> list[Write]:
        """Note the outcomes, and return the writes that must be sent again."""
        again: list[Write] = []
        given: set[Hashable] = set()
        failure: ServerError | None = None
        for write, reply in zip(writes, replies, strict=True):
            if type(reply) is int:
                write.written = reply == 1
            elif type(reply) is bytes:
                if self._may_replace(write.record, reply):
                    write.expected = sha1(reply, usedforsecurity=False).hexdigest()
                    again.append(write)
            elif type(reply) is ServerError and reply.code == "NOSCRIPT":
                place = self._server_of(write.key), write.script
                write.whole = place not in given  # the first call sends the script, which the others then use
                given.add(place)
                again.append(write)
            elif type(reply) is ServerError:
                failure = failure or reply
            elif isinstance(reply, StoreUnavailable):
                write.failure = reply
        if failure is not None:
            self._checked(failure)
        return again

    def _may_replace(self, record: Record, payload: bytes) -> bool:
        """Return whether ``record`` may replace ``payload``; an undecodable payload may be replaced."""
        return record.goes_over(self.codec.decode_record(record.id, payload))

    async def delete_many(self, ids: Sequence[str]) -> None:
        """Delete by one ``DEL`` (for very many ids, by several in one buffer)."""
        commands = [
            pack("DEL", *[key for task_id in part for key in (self._prefix + task_id, self._stream_key(task_id))])
            for part in chunks(ids)
        ]
        for reply in await self._link.call(commands):
            self._checked(reply)

    async def feed(self) -> EventFeed | None:
        """Open a feed, unless subscribing was refused recently: then results are polled."""
        if refusal := self._source.refusal:
            warn_once(self.location, f"cannot push, so that results are polled for: {refusal}")
            return None
        return await self.open_feed()

    async def open_feed(self) -> EventFeed:
        """Open a subscriber connection, even if subscribing was refused recently."""
        feed = RedisFeed(self._address, self._source)
        await feed.open()
        return feed

    async def _try_to_subscribe(self) -> None:
        """Find out whether this user may subscribe; a refusal is noted in the source."""
        feed, owed = await self.open_feed(), set(await self._probes())
        try:
            await feed.watch(owed)
            async for task_id, _ in feed:
                owed.discard(task_id)
                if not owed:
                    break
        except StoreUnavailable:
            if not self._source.refusal:
                raise
        finally:
            await feed.aclose()

    async def _probes(self) -> Sequence[str]:
        """Return ids that belong to no task, one for each server."""
        return ["aioresult-probe"]

    async def capabilities(self) -> Capabilities:
        found = await self._facts()
        await self._try_to_subscribe()
        if reason := self._source.refusal:
            return Capabilities(push=False, mechanism="polling, one read for all waiters", reason=reason, details=found)
        mechanism, reason = self._mechanism()
        return Capabilities(push=True, mechanism=mechanism, reason=reason, details=found)

    def _mechanism(self) -> tuple[str, str]:
        """Return how the server pushes, and why it does not push in a better way."""
        if self._link.resp >= 3:
            return "Redis pub/sub (RESP3, one connection)", ""
        reason = "the server does not speak RESP3, or the URL asks for protocol=2"
        return "Redis pub/sub (RESP2, a second connection reads)", reason

    async def _facts(self) -> dict[str, str]:
        info, policy = await self._link.call(QUESTIONS)
        found = details(info if is_withheld(info) else self._checked(info), policy, self._link.resp)
        if is_in_cluster(info):
            found["cluster"] = "this server is part of a cluster; use a redis+cluster:// URL"
        return found

    async def aclose(self) -> None:
        await self._link.aclose()
