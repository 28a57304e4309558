"""Two kinds of connection to one Redis server, as asyncio protocols over hiredis.

redis-py connects, authenticates, does TLS and chooses the database; its transport is then taken over. What it would do
per message (a task switch, a timeout, several calls) is what this saves.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import hiredis

from aioresult.stores.redis.errors import Lost, ServerError

Reply = object
"""What hiredis makes of a reply: ``bytes``, ``int``, ``None``, a list of these, a ``ServerError``, ..."""

Meter = Callable[[int], None]
"""Takes the number of commands that have been sent."""

_MORE: Final = object()
_SHORTEST: Final = 0.001
"""Seconds; a timer that is due a hair too early must not turn into a loop."""
_BUFFER: Final = 2**16


def pack(*command: str | bytes) -> bytes:
    """Return a command as it is sent."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one only
    return packed


_PING: Final = pack("PING")


class Wire(asyncio.BufferedProtocol):
    """What both kinds have in common: the transport, the parser and the end.

    Buffered, because asyncio otherwise allocates 256 KiB for each read, which may cost more than all the rest of it.

    Attributes:
        resp: the protocol's version that was agreed on.
        lost: why the connection ended, or ``None`` while it is open.
    """

    def __init__(self, resp: int, meter: Meter) -> None:
        self.resp = resp
        self.lost: Exception | None = None
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ServerError, notEnoughData=_MORE)
        self._writer: asyncio.StreamWriter | None = None
        self._gone = asyncio.Event()
        self._buffer = bytearray(_BUFFER)

    def take_over(self, writer: asyncio.StreamWriter, unread: bytes) -> None:
        """Become the protocol of ``writer``'s transport; ``unread`` is what the previous one had not consumed.

        Raises:
            Lost: the connection has ended already.
        """
        if writer.transport.is_closing():
            raise Lost("the server closed the connection at once")
        self._writer = writer  # kept, because newer Pythons close the transport when the writer is collected
        writer.transport.set_protocol(self)
        if unread:
            self._reader.feed(unread)
            self._hand_on()

    def write(self, buffer: bytes, count: int) -> None:
        """Send ``count`` packed commands.

        Raises:
            Lost: the connection has ended.
        """
        if self.lost is not None or self._writer is None:
            raise Lost(str(self.lost)) from self.lost
        self._meter(count)
        self._writer.transport.write(buffer)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where the transport is to put what it reads."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the transport has read."""
        try:
            self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # any buffer will do
            self._hand_on()
        except hiredis.HiredisError as exc:
            self.abort(Lost(f"what the server sends is not understood: {exc}"))

    @abstractmethod
    def _hand_on(self) -> None:
        """Hand on whatever is complete."""

    @abstractmethod
    def _end(self, reason: Exception) -> None:
        """Tell whoever waits for this connection; called once."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end of the transport, whoever caused it."""
        self._lose(exc or Lost("the server closed the connection"))
        self._gone.set()

    def abort(self, reason: Exception) -> None:
        """End the connection now; nobody may be interested in what is still under way."""
        self._lose(reason)
        if self._writer is not None:
            self._writer.transport.abort()

    def _lose(self, reason: Exception) -> None:
        if self.lost is None:
            self.lost = reason
            self._end(reason)

    async def aclose(self) -> None:
        """End the connection and wait until its socket is closed."""
        self.abort(Lost("closed"))
        await self._gone.wait()


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
            self.write(_PING, 1)
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
        while (reply := gets()) is not _MORE:
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


class SubscriberWire(Wire):
    """Messages, confirmations and the replies to reads, handed on at the moment they arrive and in their order.

    Args:
        resp: the protocol's version that was agreed on; below 3, every list is a push.
        meter: counts commands.
        on_push: takes kind, channel and payload (or count) of each push.
        on_reply: takes any other reply, but the answers to probes.
        on_end: takes the reason of the end, once.
        interval: seconds of silence after which a probe is sent; 0 for never.
        patience: seconds that its answer may take.
    """

    def __init__(
        self,
        resp: int,
        meter: Meter,
        *,
        on_push: Callable[[bytes, bytes, bytes], None],
        on_reply: Callable[[Reply], None],
        on_end: Callable[[Exception], None],
        interval: float,
        patience: float,
    ) -> None:
        super().__init__(resp, meter)
        self._push_type = hiredis.PushNotification if resp >= 3 else list
        self._on_push = on_push
        self._on_reply = on_reply
        self._on_end = on_end
        self._interval = interval
        self._patience = patience
        self._heard = True
        self._timer = self._loop.call_later(interval, self._probe) if interval else None

    def send(self, commands: Collection[bytes]) -> None:
        """Send packed commands.

        Raises:
            Lost: the connection has ended.
        """
        self.write(b"".join(commands), len(commands))

    def _hand_on(self) -> None:
        """Hand on every complete frame."""
        self._heard = True
        gets, push_type, on_push = self._reader.gets, self._push_type, self._on_push
        while (frame := gets()) is not _MORE:
            if type(frame) is push_type:
                if len(frame) == 3:
                    on_push(*frame)
                else:
                    self._answered()  # RESP2's form of PONG
            elif frame == b"PONG":
                self._answered()
            else:
                self._on_reply(frame)
                if self.lost is not None:
                    return  # it was an error: what follows, a read for instance, cannot be relied on

    def _probe(self) -> None:
        """Ask for a sign of life if there has been none since the last time."""
        if self._heard:
            self._heard = False
            self._timer = self._loop.call_later(self._interval, self._probe)
        else:
            self.write(_PING, 1)
            self._timer = self._loop.call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        if self._heard:
            self._answered()  # there is more than the answer to be read, and it is on its way
        else:
            self.abort(Lost(f"no answer to PING within {self._patience:g} s"))

    def _answered(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(self._interval, self._probe)

    def _end(self, reason: Exception) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._on_end(reason)
