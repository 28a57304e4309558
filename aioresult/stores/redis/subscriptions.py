"""The connection for subscriptions: messages, confirmations and the replies to reads."""

from __future__ import annotations

from collections.abc import Callable, Collection

import hiredis

from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import ConnectionLost, answers_ping
from aioresult.stores.redis.wire import INCOMPLETE, PING, Meter, Reply, Wire


class SubscriberWire(Wire):
    """Passes on messages, confirmations and the replies to reads in the order in which they arrive.

    Args:
        resp: the negotiated protocol version; below 3, every list is a push.
        address: the server; also gives when to send a ``PING``.
        on_push: called with kind, channel and payload (or count) of each push.
        on_reply: called with any other reply, except answers to probes; returns an error if the connection cannot be
            used any more.
        on_end: called once, with the reason of the end.
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
            self._answered()  # a part of a reply has arrived, so the connection is alive
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
