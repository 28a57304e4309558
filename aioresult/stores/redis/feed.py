"""The feed: one subscriber connection, on which every watched task's channel is subscribed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator

import hiredis

from aioresult.abc import Event, Feed, Sink
from aioresult.record import Record
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import Lost, ServerError
from aioresult.stores.redis.wire import Meter, Reply, SubscriberWire, pack

CHUNK = 1024
"""Most ids in one command: a longer one would keep the server, and then us, busy for too long at a time."""


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """Split ``ids`` into lists that fit one command."""
    listed = list(ids)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


class RedisFeed(Feed):
    """Events of one Redis server.

    On RESP3, ``MGET`` follows ``SUBSCRIBE`` in the same buffer: the server's order closes the gap between the two in
    one round trip. On RESP2, and where ``reads`` is false, a confirmed subscription is reported as "look for yourself".

    Nothing is kept for a watched id: what arrives is for one, unless it is on its way out.
    """

    def __init__(
        self,
        address: Address,
        prefix: str,
        decode: Callable[[str, bytes], Record],
        *,
        reads: bool,
        meter: Meter,
        on_lost: Callable[[bool], None],
    ) -> None:
        self._address = address
        self._prefix = prefix
        self._prefix_length = len(prefix.encode())
        self._decode = decode
        self._reads_wanted = reads
        self._on_lost = on_lost
        self._meter = meter
        self._reads: deque[list[str]] = deque()
        self._leaving: set[str] = set()
        self._queue: deque[Event] = deque()
        self._sink: Sink = self._enqueue
        self._stirred = asyncio.Event()
        self._failure: Exception | None = None
        self._closed = False
        self._wire: SubscriberWire | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable: that failed.
        """
        self._wire = wire = await self._address.open(self._make_wire)
        self._reads_wanted = self._reads_wanted and wire.resp >= 3

    def _make_wire(self, resp: int) -> SubscriberWire:
        return SubscriberWire(
            resp,
            self._meter,
            on_push=self._pushed,
            on_reply=self._replied,
            on_end=self._ended,
            interval=self._address.probe_interval,
            patience=self._address.connect_timeout,
        )

    async def watch(self, ids: Collection[str]) -> None:
        """Subscribe to ``ids`` and read them, or have them read."""
        self._leaving.difference_update(ids)
        commands = []
        for chunk in chunks(ids):
            keys = [self._prefix + task_id for task_id in chunk]
            commands.append(pack("SUBSCRIBE", *keys))
            if self._reads_wanted:
                self._reads.append(chunk)
                commands.append(pack("MGET", *keys))
        self._send(commands)

    async def unwatch(self, ids: Collection[str]) -> None:
        """Unsubscribe from ``ids``, and ignore what still arrives for them."""
        self._leaving.update(ids)
        self._send([pack("UNSUBSCRIBE", *(self._prefix + task_id for task_id in chunk)) for chunk in chunks(ids)])

    def _send(self, commands: list[bytes]) -> None:
        if self._wire is None or not commands:
            return
        try:
            self._wire.send(commands)
        except Lost as exc:
            raise self._address.unreachable(exc) from exc

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

    def _pushed(self, kind: bytes, channel: bytes, payload: bytes) -> None:
        if kind == b"message":
            task_id = channel[self._prefix_length :].decode()
            if task_id not in self._leaving:
                self._sink(task_id, self._decode(task_id, payload))
        elif kind == b"unsubscribe":
            self._leaving.discard(channel[self._prefix_length :].decode())
        elif kind == b"subscribe" and not self._reads_wanted:
            self._sink(channel[self._prefix_length :].decode(), None)

    def _replied(self, reply: Reply) -> None:
        if type(reply) is list:
            sink, decode = self._sink, self._decode
            for task_id, payload in zip(self._reads.popleft(), reply, strict=True):
                sink(task_id, decode(task_id, payload) if payload else Record(id=task_id))
        elif type(reply) is ServerError and self._wire is not None:
            self._fail(self._address.refused(reply))
            self._wire.abort(reply)

    def _ended(self, reason: Exception) -> None:
        self._on_lost(bool(self._reads))
        if not self._closed:
            driver_error = isinstance(reason, OSError | hiredis.HiredisError)
            self._fail(self._address.unreachable(reason) if driver_error else reason)

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            self._stirred.set()

    async def aclose(self) -> None:
        """Close the connection, which ends all its subscriptions."""
        self._closed = True
        self._stirred.set()
        if self._wire is not None:
            await self._wire.aclose()
