"""What the feeds of one server and of a cluster have in common: events on their way out, and the end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from aioresult.abc import Event, Feed, Sink
from aioresult.record import Record
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import Lost, ServerError
from aioresult.stores.redis.wire import Meter, Reply, SubscriberWire

CHUNK = 1024
"""Most ids in one command: a longer one would keep the server, and then us, busy for too long at a time."""


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """Split ``ids`` into lists that fit one command."""
    listed = list(ids)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


class Source:
    """What a store gives to the feeds that it opens.

    Attributes:
        prefix: what stands before an id in its key and channel.
        cut: how many bytes that is.
        decode: makes records of messages.
        meter: counts commands.
        reads: whether the next feed reads on its subscriber connections, too.
    """

    def __init__(self, prefix: str, decode: Callable[[str, bytes], Record], meter: Meter) -> None:
        self.prefix = prefix
        self.cut = len(prefix.encode())
        self.decode = decode
        self.meter = meter
        self.reads = True


class EventFeed(Feed):
    """Passes events to the sink, or keeps them for the iteration; the iteration ends when a connection does.

    A reply that outgrows what the server lets a subscriber's buffer hold gets the connection cut; the feed that follows
    one which was cut while reading therefore leaves the reading to the command connection.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cut = source.cut
        self._decode = source.decode
        self._reading = source.reads
        self._closed = False
        self._sink: Sink = self._enqueue
        self._queue: deque[Event] = deque()
        self._stirred = asyncio.Event()
        self._failure: Exception | None = None
        source.reads = True

    def attach(self, sink: Sink) -> None:
        """Call ``sink`` for each event, from within the protocol."""
        self._sink = sink

    def _enqueue(self, task_id: str, record: Record | None) -> None:
        self._queue.append((task_id, record))
        self._stirred.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._failure is not None:
                raise self._failure
            if self._closed:
                return
            self._stirred.clear()
            await self._stirred.wait()

    def _found(self, task_id: str, payload: bytes | None) -> None:
        """Emit what a read has found."""
        self._sink(task_id, self._decode(task_id, payload) if payload else Record(id=task_id))

    def _ended(self, reason: Exception, address: Address, reading: bool) -> None:
        """Take note of a connection's end; ``reading`` says whether it owed replies to reads."""
        if self._closed or self._failure is not None:
            return
        self._source.reads = not reading
        self._fail(address.unreachable(reason) if isinstance(reason, OSError) else reason)

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            self._stirred.set()


class Subscriber:
    """One subscriber connection of a feed."""

    def __init__(self, address: Address, meter: Meter) -> None:
        self.address = address
        self._meter = meter
        self._wire: SubscriberWire | None = None

    async def open(
        self,
        on_push: Callable[[bytes, bytes, bytes], None],
        on_reply: Callable[[Reply], None],
        on_end: Callable[[Exception], None],
    ) -> int:
        """Connect and return the protocol's version.

        Args:
            on_push: takes the kind, channel and payload of each push.
            on_reply: takes any other reply.
            on_end: takes the reason of the end.

        Raises:
            StoreUnavailable: that failed.
        """

        def make_wire(resp: int) -> SubscriberWire:
            return SubscriberWire(
                resp,
                self._meter,
                on_push=on_push,
                on_reply=on_reply,
                on_end=on_end,
                interval=self.address.probe_interval,
                patience=self.address.connect_timeout,
            )

        self._wire = await self.address.open(make_wire)
        return self._wire.resp

    def send(self, commands: list[bytes]) -> None:
        """Send packed commands.

        Raises:
            StoreUnavailable: the connection has ended.
        """
        if self._wire is None or not commands:
            return
        try:
            self._wire.send(commands)
        except Lost as exc:
            raise self.address.unreachable(exc) from exc

    def abort(self, reason: ServerError) -> None:
        """End the connection now."""
        if self._wire is not None:
            self._wire.abort(reason)

    async def aclose(self) -> None:
        """End the connection and wait until its socket is closed."""
        if self._wire is not None:
            await self._wire.aclose()
