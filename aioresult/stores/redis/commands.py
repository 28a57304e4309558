"""The connection for commands: requests and their replies, any number of them under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import hiredis

from aioresult.stores.redis.errors import Lost
from aioresult.stores.redis.wire import INCOMPLETE, PING, Meter, Reply, Wire

_SHORTEST: Final = 0.001
"""Seconds; a timer that runs slightly too early must not turn into a busy loop."""


class _Batch:
    """The replies to the commands of one buffer."""

    __slots__ = ("count", "future", "patience", "repeat", "replies", "sent_at")

    def __init__(
        self,
        count: int,
        future: asyncio.Future[list[Reply]] | None,
        sent_at: float,
        patience: float | None,
        repeat: bool,
    ) -> None:
        self.count = count
        self.replies: list[Reply] = []
        self.future = future
        self.sent_at = sent_at
        self.patience = patience
        self.repeat = repeat


class CommandWire(Wire):
    """Requests and replies, any number in flight; one future for all the replies to one buffer.

    Args:
        resp: the protocol's version that was agreed on.
        meter: counts commands.
        patience: seconds without a byte from the server, while replies are outstanding, after which it is given up.
        repeat: whether what was given up like that may be repeated.
        idle_limit: after so many seconds of silence, the next request asks for a sign of life first.
        idle_patience: seconds that this sign may take.
        on_silence: called each time that replies have been owed, and nothing was heard, for ``idle_patience`` seconds
            more.
    """

    def __init__(
        self,
        resp: int,
        meter: Meter,
        *,
        patience: float | None,
        repeat: bool,
        idle_limit: float,
        idle_patience: float,
        on_silence: Callable[[], None],
    ) -> None:
        super().__init__(resp, meter)
        self._on_silence = on_silence
        self._patience = patience
        self._repeat = repeat
        self._idle_limit = idle_limit
        self._idle_patience = idle_patience
        self._heard_at = self._loop.time()
        self._batches: deque[_Batch] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def request(self, commands: Collection[bytes]) -> asyncio.Future[list[Reply]]:
        """Send packed commands and return the future list of their replies; cancelling it disturbs nobody.

        Raises:
            Lost: the connection has ended; also as the future's exception.
        """
        now = self._loop.time()
        if not self._batches and self._idle_limit and now - self._heard_at > self._idle_limit:
            self.write(PING, 1)
            self._batches.append(_Batch(1, None, now, self._idle_patience, repeat=True))
            self._unwatch()  # a timer that is left from before may be set to a later time
        self.write(b"".join(commands), len(commands))
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        self._batches.append(_Batch(len(commands), future, now, self._patience, self._repeat))
        if self._timer is None:
            self._watch()
        return future

    def _hand_on(self) -> None:
        """Hand the replies to those who wait for them, in the order of the requests."""
        self._heard_at = self._loop.time()
        gets, batches, push_type = self._reader.gets, self._batches, hiredis.PushNotification
        while (reply := gets()) is not INCOMPLETE:
            if type(reply) is push_type:
                continue  # nothing that we asked for
            if not batches:
                self.abort(Lost(f"the server sent what it was not asked for: {reply!r:.100}"))
                return
            batch = batches[0]
            batch.replies.append(reply)
            if len(batch.replies) == batch.count:
                batches.popleft()
                if batch.future is not None and not batch.future.done():
                    batch.future.set_result(batch.replies)

    @property
    def silence(self) -> float:
        """For how many seconds replies have been owed while nothing was heard; 0 where none are owed."""
        if not self._batches:
            return 0.0
        return self._loop.time() - max(self._batches[0].sent_at, self._heard_at)

    def _watch(self) -> None:
        """Report, and in the end give up, a server that owes replies and stays silent; runs while replies are owed."""
        self._timer = None
        if not self._batches:
            return
        batch, silence = self._batches[0], self.silence
        if batch.patience is not None and silence >= batch.patience:
            self.abort(Lost(f"no reply within {batch.patience:g} s", repeat=batch.repeat))
            return
        if silence >= self._idle_patience:
            self._on_silence()
        rest = self._idle_patience - silence % self._idle_patience
        if batch.patience is not None:
            rest = min(rest, batch.patience - silence)
        self._timer = self._loop.call_later(max(rest, _SHORTEST), self._watch)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, reason: Exception) -> None:
        self._unwatch()
        repeat = reason.repeat if isinstance(reason, Lost) else True
        for batch in self._batches:
            if batch.future is not None and not batch.future.done():
                lost = Lost(str(reason) or type(reason).__name__, repeat=repeat)
                lost.__cause__ = reason
                batch.future.set_exception(lost)
        self._batches.clear()
