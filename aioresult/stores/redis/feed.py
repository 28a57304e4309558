"""The feed of one server: a subscriber connection, on which every watched task's channel is subscribed."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from aioresult.abc import NewsSink
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.events import EventFeed, Source, chunks
from aioresult.stores.redis.subscriptions import Subscriber
from aioresult.stores.redis.wire import Reply, pack


class RedisFeed(EventFeed):
    """Events of one Redis server.

    On RESP3, ``MGET`` follows ``SUBSCRIBE`` in the same buffer: the server's order closes the gap between the two in
    one round trip. Otherwise a confirmed subscription is reported as "look for yourself".

    Watched ids are not kept: each message is for one of them, except for ids that are being unsubscribed.
    """

    def __init__(self, address: Address, source: Source) -> None:
        super().__init__(source)
        self._address = address
        self._reads: deque[list[str]] = deque()
        self._unsubscribing: set[str] = set()
        self._subscriber = Subscriber(address, source.meter)

    async def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable: that failed.
        """
        resp = await self._subscriber.open(self._pushed, self._replied, self._lost)
        self._reading = self._reading and resp >= 3

    async def watch(self, ids: Collection[str]) -> None:
        """Subscribe to ``ids`` and read them, unless the hub is to read them."""
        self._unsubscribing.difference_update(ids)
        prefix = self._source.prefix
        commands = []
        for chunk in chunks(ids):
            keys = [prefix + task_id for task_id in chunk]
            commands.append(pack("SUBSCRIBE", *keys))
            if self._reading:
                self._reads.append(chunk)
                commands.append(pack("MGET", *keys))
        self._subscriber.send(commands)

    async def unwatch(self, ids: Collection[str]) -> None:
        """Unsubscribe from ``ids``; what still arrives for them is ignored."""
        self._unsubscribing.update(ids)
        prefix = self._source.prefix
        self._subscriber.send([pack("UNSUBSCRIBE", *[prefix + task_id for task_id in chunk]) for chunk in chunks(ids)])

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        """Subscribe to the streams of ``ids``; they are to be read once that is confirmed."""
        self._tell = tell
        self._subscriber.send([pack("SUBSCRIBE", *keys) for keys in chunks(self._stream_prefix + i for i in ids)])

    async def unfollow(self, ids: Collection[str]) -> None:
        """Unsubscribe from the streams of ``ids``."""
        self._subscriber.send([pack("UNSUBSCRIBE", *keys) for keys in chunks(self._stream_prefix + i for i in ids)])

    def _pushed(self, kind: bytes, channel: bytes, payload: bytes) -> None:
        if channel.startswith(self._stream_start):
            if kind != b"unsubscribe":
                self._told(channel[len(self._stream_start) :].decode(), payload if kind == b"message" else b"")
        elif kind == b"message":
            task_id = channel[self._prefix_length :].decode()
            if task_id not in self._unsubscribing:
                self._sink(task_id, self._decode(task_id, payload))
        elif kind == b"unsubscribe":
            self._unsubscribing.discard(channel[self._prefix_length :].decode())
        elif kind == b"subscribe" and not self._reading:
            self._sink(channel[self._prefix_length :].decode(), None)

    def _replied(self, reply: Reply) -> None:
        if type(reply) is list and self._reads:
            for task_id, payload in zip(self._reads.popleft(), reply, strict=True):
                self._found(task_id, payload)
        else:
            self._refused(reply, self._subscriber)

    def _lost(self, reason: Exception) -> None:
        self._ended(reason, self._address, reading=bool(self._reads))

    async def aclose(self) -> None:
        """Close the connection, which ends all its subscriptions."""
        self._closed = True
        self._changed.set()
        await self._subscriber.aclose()
