"""How feeds deliver events, and how they end. Also the feed of one server, which subscribes to each task's channel."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from aioresult.abc import NewsSink
from aioresult.errors import StoreUnavailable
from aioresult.record import Record
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import ServerError, why_polled
from aioresult.stores.redis.keyed import RESULT_KEY, STREAM_KEY
from aioresult.stores.redis.streams import news_of
from aioresult.stores.redis.subscriptions import SubscriberWire
from aioresult.stores.redis.wire import Meter, Reply, pack
from aioresult.stores.waking import WakingFeed
from aioresult.stream import LOOK

CHUNK = 1024
"""The most ids in one command: a longer one, and its reply, would block the server and this process for too long."""


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """Split ``ids`` into lists that fit one command."""
    listed = list(ids)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


class Source:
    """What a store passes to the feeds that it opens, and what one feed leaves for the next.

    Attributes:
        keyprefix: the prefix of all keys.
        prefix: the text before an id in its key and channel, including ``keyprefix``.
        prefix_length: the length of ``prefix`` in bytes.
        stream_prefix: the text before an id in the key and channel of its stream.
        decode: makes records of messages.
        meter: counts commands.
        reads: whether the next feed also reads on its subscriber connections.
    """

    next_try: float = 60.0
    """Seconds after a refusal until subscribing is tried again, because the right may have been granted."""

    def __init__(self, keyprefix: str, decode: Callable[[str, bytes], Record], meter: Meter) -> None:
        self.keyprefix = keyprefix
        self.prefix = keyprefix + RESULT_KEY
        self.prefix_length = len(self.prefix.encode())
        self.stream_prefix = keyprefix + STREAM_KEY
        self.decode = decode
        self.meter = meter
        self.reads = True
        self._refusal = ""
        self._refused_at = 0.0

    def refuse(self, reason: str) -> None:
        """Note why a subscription was refused."""
        self._refusal, self._refused_at = reason, time.monotonic()

    @property
    def refusal(self) -> str:
        """Why a subscription was refused recently; empty if none was, or if it is time to try again."""
        return self._refusal if time.monotonic() < self._refused_at + self.next_try else ""


class EventFeed(WakingFeed):
    """The common part of the feeds of one server and of a cluster. The iteration ends when a connection ends.

    The server cuts a subscriber connection whose buffered reply is too large. If a feed is cut while it reads, the next
    feed therefore leaves the reading to the command connection.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._prefix_length = source.prefix_length
        self._decode = source.decode
        self._reading = source.reads
        self._stream_prefix = source.stream_prefix
        self._stream_start = source.stream_prefix.encode()
        self._tell: NewsSink | None = None
        source.reads = True

    def _told(self, task_id: str, message: bytes) -> None:
        """Pass on a message of a stream's channel."""
        if self._tell is not None:
            self._tell(task_id, news_of(message) if message else LOOK)

    def _found(self, task_id: str, payload: bytes | None) -> None:
        """Emit the result of a read."""
        self._sink(task_id, self._decode(task_id, payload) if payload else Record(id=task_id))

    def _ended(self, reason: Exception, address: Address, reading: bool) -> None:
        """Note a connection's end; ``reading`` is whether replies to reads were outstanding."""
        if self._closed or self._failure is not None:
            return
        self._source.reads = not reading
        self._fail(address.unreachable(reason) if isinstance(reason, OSError) else reason)

    def _refused(self, reply: Reply, address: Address) -> ServerError:
        """End the feed because of an error, or of an unexpected reply; return that error.

        If subscribing was refused, the hub gets ``StoreUnavailable``, so that it opens another feed. The store has
        noted the refusal by then, and makes the hub poll.
        """
        error = reply if type(reply) is ServerError else ServerError(f"UNEXPECTED {reply!r:.100}")
        if reason := why_polled(error, self._source.keyprefix):
            self._source.refuse(reason)
            self._fail(StoreUnavailable(f"Redis at {address.location} cannot push: {reason}"))
        else:
            self._fail(address.refused(error))
        return error


class RedisFeed(EventFeed):
    """Events of one Redis server.

    On RESP3, ``MGET`` follows ``SUBSCRIBE`` in the same buffer: since the server keeps the order, nothing is missed
    between them, in one round trip. Otherwise a confirmed subscription is emitted as ``(id, None)``, so that the hub
    reads.

    Watched ids are not kept here, because each message is for one of them, or for an id that is being unsubscribed.
    """

    def __init__(self, address: Address, source: Source) -> None:
        super().__init__(source)
        self._address = address
        self._reads: deque[list[str]] = deque()
        self._unsubscribing: set[str] = set()
        self._wire: SubscriberWire

    async def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable: connecting failed.
        """
        self._wire = await self._address.open(self._make_wire)
        self._reading = self._reading and self._wire.resp >= 3

    def _make_wire(self, resp: int) -> SubscriberWire:
        meter, address = self._source.meter, self._address
        return SubscriberWire(resp, meter, address, on_push=self._pushed, on_reply=self._replied, on_end=self._lost)

    async def watch(self, ids: Collection[str]) -> None:
        """Subscribe to ``ids`` and read them, unless the hub must read them."""
        self._unsubscribing.difference_update(ids)
        prefix = self._source.prefix
        commands = []
        for chunk in chunks(ids):
            keys = [prefix + task_id for task_id in chunk]
            commands.append(pack("SUBSCRIBE", *keys))
            if self._reading:
                self._reads.append(chunk)
                commands.append(pack("MGET", *keys))
        self._wire.send(commands)

    async def unwatch(self, ids: Collection[str]) -> None:
        self._unsubscribing.update(ids)
        prefix = self._source.prefix
        self._wire.send([pack("UNSUBSCRIBE", *[prefix + task_id for task_id in chunk]) for chunk in chunks(ids)])

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        """Subscribe to the streams of ``ids``; readers must read them once that is confirmed."""
        self._tell = tell
        self._wire.send([pack("SUBSCRIBE", *keys) for keys in chunks(self._stream_prefix + i for i in ids)])

    async def unfollow(self, ids: Collection[str]) -> None:
        self._wire.send([pack("UNSUBSCRIBE", *keys) for keys in chunks(self._stream_prefix + i for i in ids)])

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

    def _replied(self, reply: Reply) -> ServerError | None:
        if type(reply) is not list or not self._reads:
            return self._refused(reply, self._address)
        for task_id, payload in zip(self._reads.popleft(), reply, strict=True):
            self._found(task_id, payload)
        return None

    def _lost(self, reason: Exception) -> None:
        self._ended(reason, self._address, reading=bool(self._reads))

    async def aclose(self) -> None:
        await super().aclose()
        await self._wire.aclose()
