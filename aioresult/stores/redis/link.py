"""The connection for commands: opened at first use, replaced when it is found dead."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import Lost, ServerError
from aioresult.stores.redis.wire import CommandWire, Meter, Reply

_DEMOTED: Final = frozenset(("READONLY", "MASTERDOWN"))
"""What a server answers that has become a replica: the address may lead to another by now."""


class Link:
    """Carries packed commands to one address and their replies back, for any number of callers at a time."""

    def __init__(self, address: Address, meter: Meter) -> None:
        self.address = address
        self._meter = meter
        self._wire: CommandWire | None = None
        self._opening = asyncio.Lock()

    @property
    def resp(self) -> int:
        """The protocol's version of the present connection, or of the last one; 0 before the first."""
        return self._wire.resp if self._wire is not None else 0

    async def call(self, commands: Collection[bytes]) -> list[Reply]:
        """Send ``commands`` in one buffer and return their replies, error replies among them.

        On a connection that turns out to be dead, or to lead to a server that has been demoted, everything is repeated
        once on a new one; so all of it must be harmless when done twice.

        Raises:
            StoreUnavailable: no connection, or none that lasted.
        """
        if not commands:
            return []
        try:
            wire = self._wire
            if wire is None or wire.lost is not None:
                wire = await self._open()
            replies = await wire.request(commands)
        except Lost as exc:
            if not exc.repeat:
                raise self.address.unreachable(exc) from exc
        else:
            if not any(type(reply) is ServerError and reply.code in _DEMOTED for reply in replies):
                return replies
            self._drop()
        try:
            return await (await self._open()).request(commands)
        except Lost as exc:
            raise self.address.unreachable(exc) from exc

    async def _open(self) -> CommandWire:
        async with self._opening:
            wire = self._wire
            if wire is None or wire.lost is not None:
                self._wire = wire = await self.address.open(self._make_wire)
        return wire

    def _make_wire(self, resp: int) -> CommandWire:
        address = self.address
        return CommandWire(
            resp,
            self._meter,
            patience=address.reply_timeout,
            repeat=address.retry_on_timeout,
            idle_limit=address.probe_interval,
            idle_patience=address.connect_timeout,
        )

    def _drop(self) -> None:
        """Leave the present connection; what others have under way on it is repeated by them."""
        if self._wire is not None:
            self._wire.abort(Lost("the server was demoted"))

    async def aclose(self) -> None:
        """Close the connection, if there is one; the next call opens another."""
        if self._wire is not None:
            await self._wire.aclose()
