"""Servers whose address comes from sentinels, because it changes when the primary fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import redis.asyncio.connection as driver
import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from aioresult.settings import Settings
from aioresult.stores.redis.connect import DRIVER_INFO, Address
from aioresult.stores.redis.errors import ConnectionLost


class SentinelAddress(Address):
    """The primary of a service. Each new connection asks the sentinels for it, because it may have moved.

    A demoted server answers ``READONLY``, or drops its clients on a sentinel's command; both lead to a new connection.

    Attributes:
        sentinels: hosts and ports of the sentinels; the one that answered last time is the first.
        service: the name under which they know the primary.
        min_other_sentinels: how many other sentinels a sentinel must know for its answer to count.
        sentinel_options: the options of the connections to them.
    """

    def __init__(
        self,
        sentinels: Sequence[tuple[str, int]],
        service: str,
        min_other_sentinels: int,
        sentinel_options: Mapping[str, Any],
        connection_class: type[driver.AbstractConnection],
        options: Mapping[str, Any],
        settings: Settings,
    ) -> None:
        self.sentinels = list(sentinels)
        self.service = service
        self.min_other_sentinels = min_other_sentinels
        self.sentinel_options = dict(sentinel_options)
        super().__init__(connection_class, options, settings)

    def _describe(self) -> str:
        places = ",".join(f"{host}:{port}" for host, port in self.sentinels)
        return f"{self.service}/{self.options.get('db') or 0} (sentinels {places})"

    def check(self) -> None:
        """Check the options, including those for the sentinels, without connecting."""
        super().check()
        with self._understood():
            for host, port in self.sentinels:
                self._client(host, port)

    async def _find(self) -> Mapping[str, Any]:
        """Ask one sentinel after the other, beginning with the one that answered last time."""
        problems = []
        for place in list(self.sentinels):
            try:
                async with asyncio.timeout(self.connect_timeout / len(self.sentinels)):
                    found = await self._ask(*place)
            except (redis.exceptions.RedisError, OSError) as exc:
                problems.append(f"{place[0]}:{place[1]}: {_reason(exc)}")
                continue
            if found is not None:
                self.sentinels.remove(place)
                self.sentinels.insert(0, place)
                return found
            problems.append(f"{place[0]}:{place[1]}: knows no primary {self.service!r} that is up")
        raise ConnectionLost(f"no sentinel knows the primary ({'; '.join(problems)})")

    async def _ask(self, host: str, port: int) -> Mapping[str, Any] | None:
        sentinel = self._client(host, port)
        client: Redis = sentinel.sentinels[0]
        try:
            masters: Any = await client.sentinel_masters()
        finally:
            await client.aclose()
        state = masters.get(self.service)
        if state is None or not sentinel.check_master_state(state, self.service):
            return None
        return {"host": state["ip"], "port": state["port"]}

    def _client(self, host: str, port: int) -> Sentinel:
        """Return redis-py's client of one sentinel, with RESP2, since all sentinels support it."""
        options = {"protocol": 2, "retry": Retry(NoBackoff(), 0), "max_connections": 1}
        options |= {**DRIVER_INFO, **self.sentinel_options}
        return Sentinel([(host, port)], self.min_other_sentinels, options)  # type: ignore[no-untyped-call]  # redis-py's


def _reason(exc: Exception) -> str:
    if isinstance(exc, redis.exceptions.AuthenticationError):
        return f"authentication failed ({exc})"
    return str(exc) or type(exc).__name__
