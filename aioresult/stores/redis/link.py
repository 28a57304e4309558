"""The connection for commands: opened at its first use, and replaced when it is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

import redis.exceptions

from aioresult.background import Background
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.stores.redis.commands import CommandWire
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import ConnectionLost, ServerError
from aioresult.stores.redis.wire import Meter, Reply

_DEMOTED: Final = frozenset(("READONLY", "MASTERDOWN"))
"""Error codes of a server that has become a replica. Its address may lead to another server now."""


class Link:
    """Sends packed commands to one address and returns their replies, for any number of callers at a time.

    If replies are outstanding and the server has been silent for ``connect_timeout`` seconds, a new connection is
    opened as a test. If it opens, perhaps to the successor of a frozen primary, the silent connection is dead and its
    requests are repeated. If it does not open, the server may be busy; then the link waits as long as the settings say.

    A server that is one of several (``waits=False``) must not delay requests to the others. It is tested after half of
    ``connect_timeout``, and given up after the whole of it. For the same time again, calls fail at once, while a new
    connection is tried in the background.
    """

    def __init__(self, address: Address, meter: Meter, *, waits: bool = True) -> None:
        self.address = address
        self._meter = meter
        self._waits = waits
        self._silence_limit = address.connect_timeout if waits else address.connect_timeout / 2
        self._wire: CommandWire | None = None
        self._opening = asyncio.Lock()
        self._test = Background(self._try_another, "aioresult tests a silent connection", pending=lambda: False)
        self._attempt = Background(self._try, "aioresult reconnects to a silent server", pending=lambda: False)
        self._outage = ""
        """Why the last attempt to reach the server failed, if it took the whole timeout."""
        self._outage_ends = 0.0
        """Until when, in the loop's time, calls fail at once because of ``_outage``."""

    @property
    def resp(self) -> int:
        """The protocol version of the present connection, or of the last one; 0 before the first."""
        return self._wire.resp if self._wire is not None else 0

    async def call(self, commands: Collection[bytes], *, once: bool = False) -> list[Reply]:
        """Send ``commands`` in one buffer and return their replies, error replies among them.

        If the connection is dead, or leads to a server that was demoted, everything is repeated once on a new one. The
        commands must therefore be harmless when executed twice, or ``once`` must forbid that.

        Raises:
            StoreUnavailable: connecting failed, or the connection was lost.
        """
        if not commands:
            return []
        try:
            wire = self._wire
            if wire is None or wire.lost is not None:
                self._check_outage()
                wire = await self._open()
            replies = await wire.request(commands)
        except ConnectionLost as exc:
            if once or not exc.repeat:
                raise self.address.unreachable(exc) from exc
        else:
            if not any(type(reply) is ServerError and reply.code in _DEMOTED for reply in replies):
                return replies
            wire.abort(ConnectionLost("the server was demoted"))  # other callers then repeat their requests
            if once:
                raise StoreUnavailable(f"Redis at {self.address.location} is unavailable: it was demoted")
        try:
            return await (await self._open()).request(commands)
        except ConnectionLost as exc:
            raise self.address.unreachable(exc) from exc

    async def _open(self) -> CommandWire:
        async with self._opening:
            wire = self._wire
            if wire is None or wire.lost is not None:
                try:
                    self._wire = wire = await self.address.open(self._make_wire)
                except StoreUnavailable as exc:
                    if isinstance(exc.__cause__, TimeoutError | redis.exceptions.TimeoutError):
                        self._note_outage(exc)
                    raise
                self._outage = ""
        return wire

    def _note_outage(self, exc: StoreUnavailable) -> None:
        if not self._waits:
            self._outage = str(exc)
            self._outage_ends = asyncio.get_running_loop().time() + self.address.connect_timeout

    def _check_outage(self) -> None:
        """Raise ``StoreUnavailable`` if the server could not be reached recently, and try again in the background."""
        if self._outage and asyncio.get_running_loop().time() < self._outage_ends:
            self._attempt.begin()
            raise StoreUnavailable(self._outage)

    async def _try(self) -> None:
        with suppress(AioResultError):  # it is noted, and raised by the next call
            await self._open()

    def _make_wire(self, resp: int) -> CommandWire:
        return CommandWire(resp, self._meter, self.address, self._silence_limit, self._test.begin)

    async def _try_another(self) -> None:
        """Open another connection, which replaces the present one if that is still silent."""
        silent = self._wire
        if silent is None:
            return
        try:
            async with asyncio.timeout(None if self._waits else self._silence_limit):
                fresh = await self.address.open(self._make_wire)
        except (AioResultError, TimeoutError):
            if not self._waits and silent.silence:
                lost = ConnectionLost(
                    f"no reply within {self.address.connect_timeout:g} s, and no new connection", repeat=False
                )
                self._note_outage(self.address.unreachable(lost))
                silent.abort(lost)
            return
        if silent.silence:
            self._wire = fresh
            silent.abort(ConnectionLost("it has fallen silent, while a new connection opens"))
        else:
            await fresh.aclose()

    async def aclose(self) -> None:
        """Close the connection, if there is one; the next call opens another."""
        await self._test.cancel()
        await self._attempt.cancel()
        if self._wire is not None:
            await self._wire.aclose()
