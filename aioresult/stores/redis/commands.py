"""The connection for commands: requests and their replies, any number of them in flight."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import hiredis
import msgspec

from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import ConnectionLost
from aioresult.stores.redis.wire import INCOMPLETE, PING, Meter, Reply, Wire

_SHORTEST: Final = 0.001
"""Seconds; prevents a busy loop when a timer fires slightly too early."""


class _Batch(msgspec.Struct, eq=False):
    """The replies to the commands of one buffer."""

    count: int
    future: asyncio.Future[list[Reply]] | None
    sent_at: float
    timeout: float | None
    repeat: bool
    replies: list[Reply] = []


class CommandWire(Wire):
    """Requests and replies, any number in flight; one future for all the replies to one buffer.

    Args:
        address: the server; also gives how long to wait for replies, and after which silence to send a ``PING`` first.
        ping_timeout: seconds that the answer to a ``PING`` may take.
        on_silence: called after each ``ping_timeout`` seconds without any of the outstanding replies.
    """

    def __init__(
        self, resp: int, meter: Meter, address: Address, ping_timeout: float, on_silence: Callable[[], None]
    ) -> None:
        super().__init__(resp, meter)
        self._on_silence = on_silence
        self._timeout = address.reply_timeout
        self._repeat = address.retry_on_timeout
        self._idle_limit = address.probe_interval
        self._ping_timeout = ping_timeout
        self._received_at = self._loop.time()
        self._batches: deque[_Batch] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def request(self, commands: Collection[bytes]) -> asyncio.Future[list[Reply]]:
        """Send packed commands and return a future with the list of their replies; it may be cancelled.

        Raises:
            ConnectionLost: the connection has ended; also as the future's exception.
        """
        now = self._loop.time()
        if not self._batches and self._idle_limit and now - self._received_at > self._idle_limit:
            self.write(PING, 1)
            self._batches.append(_Batch(1, None, now, self._ping_timeout, repeat=True))
            self._unwatch()  # an older timer may be set to a later time
        self.write(b"".join(commands), len(commands))
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        self._batches.append(_Batch(len(commands), future, now, self._timeout, self._repeat))
        if self._timer is None:
            self._watch()
        return future

    def _dispatch(self) -> None:
        """Assign the replies to their requests, which are answered in order."""
        self._received_at = self._loop.time()
        gets, batches, push_type = self._reader.gets, self._batches, hiredis.PushNotification
        while (reply := gets()) is not INCOMPLETE:
            if type(reply) is push_type:
                continue  # not a reply to a request
            if not batches:
                self.abort(ConnectionLost(f"the server sent what it was not asked for: {reply!r:.100}"))
                return
            batch = batches[0]
            batch.replies.append(reply)
            if len(batch.replies) == batch.count:
                batches.popleft()
                if batch.future is not None and not batch.future.done():
                    batch.future.set_result(batch.replies)

    @property
    def silence(self) -> float:
        """Seconds since the server sent anything, while replies are outstanding; otherwise 0."""
        if not self._batches:
            return 0.0
        return self._loop.time() - max(self._batches[0].sent_at, self._received_at)

    def _watch(self) -> None:
        """Report a silent server, and give it up after ``timeout``; called by a timer while replies are outstanding."""
        self._timer = None
        if not self._batches:
            return
        batch, silence = self._batches[0], self.silence
        if batch.timeout is not None and silence >= batch.timeout:
            self.abort(ConnectionLost(f"no reply within {batch.timeout:g} s", repeat=batch.repeat))
            return
        if silence >= self._ping_timeout:
            self._on_silence()
        rest = self._ping_timeout - silence % self._ping_timeout
        if batch.timeout is not None:
            rest = min(rest, batch.timeout - silence)
        self._timer = self._loop.call_later(max(rest, _SHORTEST), self._watch)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, reason: Exception) -> None:
        self._unwatch()
        repeat = reason.repeat if isinstance(reason, ConnectionLost) else True
        for batch in self._batches:
            if batch.future is not None and not batch.future.done():
                lost = ConnectionLost(str(reason) or type(reason).__name__, repeat=repeat)
                lost.__cause__ = reason
                batch.future.set_exception(lost)
        self._batches.clear()
