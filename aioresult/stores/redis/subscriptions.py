"""The connection for subscriptions: messages, confirmations and the replies to reads."""

from __future__ import annotations

from collections.abc import Callable, Collection

import hiredis

from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import ConnectionLost, answers_ping
from aioresult.stores.redis.wire import INCOMPLETE, PING, Meter, Reply, Wire


class SubscriberWire(Wire):
    """Passes on messages, confirmations and the replies to reads as they arrive, in their order.

    Args:
        resp: the protocol's version that was agreed on; below 3, every list is a push.
        address: where it leads; it says when to send a ``PING``, too.
        on_push: takes kind, channel and payload (or count) of each push.
        on_reply: takes any other reply, but the answers to probes; returns why the connection is of no use any more, if
            it is not.
        on_end: takes the reason of the end, once.
    """

    def __init__(
        self,
        resp: int,
        meter: Meter,
        address: Address,
        *,
        on_push: Callable[[bytes, bytes, bytes], None],
        on_reply: Callable[[Reply], Exception | None],
        on_end: Callable[[Exception], None],
    ) -> None:
        super().__init__(resp, meter)
        self._push_type = hiredis.PushNotification if resp >= 3 else list
        self._on_push = on_push
        self._on_reply = on_reply
        self._on_end = on_end
        self._address = address
        self._interval = interval = address.probe_interval
        self._timeout = address.connect_timeout
        self._received = True
        self._timer = self._loop.call_later(interval, self._probe) if interval else None

    def send(self, commands: Collection[bytes]) -> None:
        """Send packed commands.

        Raises:
            StoreUnavailable: the connection has ended.
        """
        if not commands:
            return
        try:
            self.write(b"".join(commands), len(commands))
        except ConnectionLost as exc:
            raise self._address.unreachable(exc) from exc

    def _dispatch(self) -> None:
        """Pass every complete frame on."""
        self._received = True
        gets, push_type, on_push = self._reader.gets, self._push_type, self._on_push
        while (frame := gets()) is not INCOMPLETE:
            if type(frame) is push_type:
                if len(frame) == 3:
                    on_push(*frame)
                else:
                    self._answered()  # RESP2's form of PONG
            elif answers_ping(frame):
                self._answered()
            elif (reason := self._on_reply(frame)) is not None:
                self.abort(reason)
                return

    def _probe(self) -> None:
        """Send a ``PING`` if nothing has arrived since the last time."""
        if self._received:
            self._received = False
            self._timer = self._loop.call_later(self._interval, self._probe)
        else:
            self.write(PING, 1)
            self._timer = self._loop.call_later(self._timeout, self._give_up)

    def _give_up(self) -> None:
        if self._received:
            self._answered()  # there is more than the answer to be read, and it is on its way
        else:
            self.abort(ConnectionLost(f"no answer to PING within {self._timeout:g} s"))

    def _answered(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(self._interval, self._probe)

    def _end(self, reason: Exception) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._on_end(reason)
