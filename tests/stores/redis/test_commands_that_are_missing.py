"""Servers whose operators have disabled commands, and proxies that do not know some."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aioresult import Backend
from aioresult.errors import Unsupported
from aioresult.testing.conformance import eventually
from tests.servers import RedisServer

PATIENCE = 20.0
VALUE = "what nobody else may see"


@contextmanager
def server_without(name: str) -> Iterator[RedisServer]:
    class Lacking(RedisServer):
        def command(self) -> list[str]:
            return [*super().command(), "--rename-command", name, ""]

        def probe(self) -> None:
            self.call("ECHO", "ready")

    with Lacking() as server:
        yield server


@pytest.mark.parametrize("query", ["", "?protocol=2"])
@pytest.mark.parametrize("name", ["INFO", "CONFIG", "CLIENT", "HELLO", "SCRIPT"])
async def test_what_is_not_needed_may_be_missing(name: str, query: str) -> None:
    with server_without(name) as server:
        async with Backend(server.url + query) as backend:
            assert await backend.store_result("a", VALUE, "SUCCESS")
            assert await backend.AsyncResult("a").get(timeout=10) == VALUE
            capabilities = await backend.capabilities()
            assert capabilities.push
            shown = {"INFO": ("server", "role"), "CONFIG": ("eviction",)}.get(name, ())
            assert [capabilities.details[fact] for fact in shown] == [
                f"not known (the server has no command {name})"
            ] * len(shown)


async def test_a_subscription_lasts_without_pings() -> None:
    with server_without("PING") as server:
        async with (
            Backend(server.url) as writer,
            Backend(server.url, redis_backend_health_check_interval=0.02) as backend,
        ):
            waiting = asyncio.create_task(backend.AsyncResult("a").get(timeout=PATIENCE))
            await eventually(lambda: _resolved(backend.stats().watched == 1))
            before = backend.stats().commands
            await eventually(lambda: _resolved(backend.stats().commands > before + 3))
            await writer.store_result("a", VALUE, "SUCCESS")
            assert await waiting == VALUE
            assert backend.stats().reconnects == 0
            await backend.ping()


async def _resolved(outcome: bool) -> bool:
    return outcome


@pytest.mark.parametrize("name", ["EVALSHA", "MGET"])
async def test_what_is_needed_is_named_without_the_values(name: str) -> None:
    with server_without(name) as server:
        async with Backend(server.url) as backend:
            call = backend.fetch("a") if name == "MGET" else backend.store_result("a", VALUE, "SUCCESS")
            with pytest.raises(Unsupported, match=f"has no command {name}, which this needs") as caught:
                await call
            assert VALUE not in f"{caught.value} {caught.value.__cause__}"
