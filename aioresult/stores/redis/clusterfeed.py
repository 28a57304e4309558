"""The feed of a cluster: a subscriber connection to each node that holds a watched key."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from functools import partial

from aioresult.abc import NewsSink
from aioresult.background import Background
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import ServerError
from aioresult.stores.redis.feed import EventFeed, Source, chunks
from aioresult.stores.redis.router import Place, Router, Topology
from aioresult.stores.redis.subscriptions import SubscriberWire
from aioresult.stores.redis.wire import Reply, pack


class _Node:
    """One node's connection, with the ids whose reads and unsubscriptions are not confirmed yet."""

    def __init__(self, place: Place, address: Address) -> None:
        self.place = place
        self.address = address
        self.wire: SubscriberWire
        self.reads: deque[str] = deque()
        self.unsubscribing: dict[str, int] = {}


class ClusterFeed(EventFeed):
    """Events of a Redis Cluster.

    An id is watched on the node that holds its key, on two channels: the sharded one, to which our writers publish, and
    the classic one, to which Celery publishes. The read follows on the same connection, so nothing is missed between.

    A node that loses a slot reports it for each channel; these ids are then watched on the new node. Every other
    failure of a node, or change of the topology, ends the feed; the next feed reads the topology again.
    """

    def __init__(self, router: Router, source: Source, stream_key: Callable[[str], str], *, sharded: bool) -> None:
        super().__init__(source)
        self._stream_key = stream_key
        self._streams: dict[bytes, str] = {}
        """The ids of the streams that are followed, by their channels."""
        self._router = router
        self._sharded = sharded
        self._nodes: dict[Place, _Node] = {}
        self._watched: dict[str, _Node] = {}
        self._topology: Topology | None = None
        self._opening: defaultdict[Place, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._moved: dict[str, Place] = {}
        self._moving = Background(self._move, "aioresult follows slots that move", pending=lambda: False)
        self._confirms = b"ssubscribe" if sharded else b"subscribe"

    async def watch(self, ids: Collection[str]) -> None:
        """Subscribe to ``ids`` at the nodes that hold them, and read them there, unless the hub must read them."""
        prefix = self._source.prefix
        topology = self._topology = await self._router.topology()
        places: dict[Place, list[str]] = {}
        for task_id in ids:
            places.setdefault(topology.owner(prefix + task_id), []).append(task_id)
        outcomes = await asyncio.gather(
            *(self._watch_at(place, held) for place, held in places.items()), return_exceptions=True
        )
        for outcome in outcomes:  # only now, because ids of other nodes must not wait for a node that cannot be reached
            if outcome is not None:
                raise outcome

    async def _watch_at(self, place: Place, ids: list[str]) -> None:
        node = await self._node(place)
        for task_id in ids:
            before = self._watched.get(task_id)
            if before is not None and before is not node:
                before.wire.send([pack("UNSUBSCRIBE", self._source.prefix + task_id)])
            self._watched[task_id] = node
        commands = []
        for chunk in chunks(ids):
            keys = [self._source.prefix + task_id for task_id in chunk]
            commands.append(pack("SUBSCRIBE", *keys))
            if self._sharded:
                commands += [pack("SSUBSCRIBE", key) for key in keys]
            if self._reading:
                node.reads.extend(chunk)
                commands += [pack("GET", key) for key in keys]
        node.wire.send(commands)

    async def _node(self, place: Place) -> _Node:
        async with self._opening[place]:
            node = self._nodes.get(place)
            if node is None:
                node = _Node(place, self._router.address_of(place))
                try:
                    node.wire = await node.address.open(partial(self._make_wire, node))
                except StoreUnavailable:
                    self._outdate()
                    raise
                self._reading = self._reading and node.wire.resp >= 3
                self._nodes[place] = node
            return node

    def _make_wire(self, node: _Node, resp: int) -> SubscriberWire:
        return SubscriberWire(
            resp,
            self._source.meter,
            node.address,
            on_push=partial(self._pushed, node),
            on_reply=partial(self._replied, node),
            on_end=partial(self._lost, node),
        )

    async def unwatch(self, ids: Collection[str]) -> None:
        nodes: dict[_Node, list[str]] = {}
        for task_id in ids:
            node = self._watched.pop(task_id, None)
            if node is not None:
                nodes.setdefault(node, []).append(task_id)
        for node, held in nodes.items():
            self._unsubscribe(node, held)

    def _unsubscribe(self, node: _Node, ids: Iterable[str]) -> None:
        commands = []
        for chunk in chunks(ids):
            keys = [self._source.prefix + task_id for task_id in chunk]
            commands.append(pack("UNSUBSCRIBE", *keys))
            if self._sharded:
                for task_id in chunk:
                    node.unsubscribing[task_id] = node.unsubscribing.get(task_id, 0) + 1
                commands += [pack("SUNSUBSCRIBE", key) for key in keys]
        node.wire.send(commands)

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        self._tell = tell
        channels = {self._stream_key(task_id): task_id for task_id in ids}
        self._streams.update((channel.encode(), task_id) for channel, task_id in channels.items())
        await self._send_to_owners("SSUBSCRIBE" if self._sharded else "SUBSCRIBE", channels)

    async def unfollow(self, ids: Collection[str]) -> None:
        channels = [self._stream_key(task_id) for task_id in ids]
        for channel in channels:
            self._streams.pop(channel.encode(), None)
        await self._send_to_owners("SUNSUBSCRIBE" if self._sharded else "UNSUBSCRIBE", channels)

    async def _send_to_owners(self, command: str, channels: Iterable[str]) -> None:
        topology = self._topology = await self._router.topology()
        for channel in channels:
            (await self._node(topology.owner(channel))).wire.send([pack(command, channel)])

    def _stream_pushed(self, node: _Node, kind: bytes, task_id: str, payload: bytes) -> None:
        if kind == b"sunsubscribe":  # its slot has moved: a new feed finds all nodes again
            self._outdate()
            location = node.address.location
            self._fail(StoreUnavailable(f"Redis at {location} is unavailable: it does not hold {task_id!r} any more"))
        elif kind != b"unsubscribe":
            self._told(task_id, payload if kind in (b"smessage", b"message") else b"")

    def _pushed(self, node: _Node, kind: bytes, channel: bytes, payload: bytes) -> None:
        if (followed := self._streams.get(channel)) is not None:
            self._stream_pushed(node, kind, followed, payload)
            return
        if channel.startswith(self._stream_start):
            return
        task_id = channel[self._prefix_length :].decode()
        if kind == b"sunsubscribe" and task_id in node.unsubscribing:
            node.unsubscribing[task_id] -= 1
            if not node.unsubscribing[task_id]:
                del node.unsubscribing[task_id]
        elif self._watched.get(task_id) is not node:
            return
        elif kind in (b"smessage", b"message"):
            self._sink(task_id, self._decode(task_id, payload))
        elif kind == b"sunsubscribe":
            self._watch_elsewhere(task_id, node)
        elif kind == self._confirms and not self._reading:
            self._sink(task_id, None)

    def _replied(self, node: _Node, reply: Reply) -> ServerError | None:
        if node.reads and (reply is None or isinstance(reply, bytes)):
            self._found(node.reads.popleft(), reply)
        elif node.reads and type(reply) is ServerError and reply.code == "ASK":
            self._sink(node.reads.popleft(), None)  # it was a read, since nothing else is redirected in this way
        else:
            self._outdate()
            return self._refused(reply, node.address)
        return None

    def _lost(self, node: _Node, reason: Exception) -> None:
        self._outdate()
        self._ended(reason, node.address, reading=bool(node.reads))

    def _outdate(self) -> None:
        if self._topology is not None:
            self._router.outdate(self._topology)

    # --- slots that move ---

    def _watch_elsewhere(self, task_id: str, node: _Node) -> None:
        """Watch an id at its present node; its slot has moved away from ``node``."""
        self._moved[task_id] = node.place
        if not self._closed:
            self._moving.begin()

    async def _move(self) -> None:
        try:
            while self._moved:
                moved, self._moved = self._moved, {}
                await self._router.look_up(self._topology, *set(moved.values()))
                await self.watch([task_id for task_id in moved if task_id in self._watched])
        except AioResultError as exc:
            self._fail(exc)

    async def aclose(self) -> None:
        await super().aclose()
        await self._moving.cancel()
        for node in self._nodes.values():
            await node.wire.aclose()
