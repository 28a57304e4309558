"""Servers that speak MongoDB's protocol and refuse some of it: what is refused is not an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aioresult import Backend, subscription
from aioresult.errors import StoreUnavailable
from aioresult.stores.mongodb import connection
from aioresult.testing.conformance import eventually
from tests.servers.mongoproxy import AnsweringMongoProxy, refusal
from tests.stores.mongodb.drivers import DRIVERS, PATIENCE, Document, by_driver, until_watched

Answer = Callable[[Document], Document | None]

ONLY_POLLING: dict[str, Any] = {"fallback_interval": 3600, "poll_interval": 0.05, "poll_min_interval": 0.05}
ONLY_PUSH: dict[str, Any] = {"fallback_interval": 3600, "poll_interval": 3600, "poll_min_interval": 3600}


def stream_of(request: Document) -> Document | None:
    """Return the stage of ``request`` that opens a change stream."""
    stages = request.get("pipeline") or [{}]
    stage: Document | None = stages[0].get("$changeStream")
    return stage


async def is_woken(backend: Backend, task_id: str) -> None:
    """Check that whoever waits hears of what is stored after that."""
    waiter = asyncio.create_task(backend.AsyncResult(task_id).get(timeout=PATIENCE))
    await until_watched(backend, 1)
    await backend.store_result(task_id, task_id, "SUCCESS")
    assert await waiter == task_id


@pytest.mark.parametrize("code", [136, 168, 303, 9, 2, 72, 115, 8000, 40415])
async def test_a_server_that_refuses_change_streams_is_polled_with_one_warning(
    mongo_url: str, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def answer(request: Document) -> Document | None:
        return refusal(code, "no streams here") if stream_of(request) is not None else None

    async with AnsweringMongoProxy(mongo_url, answer) as proxy, Backend(proxy.url, **ONLY_POLLING) as backend:
        await is_woken(backend, "a")
        capabilities = await backend.capabilities()
        assert not capabilities.push
        assert "no streams here" in capabilities.reason
        assert backend.stats().reconnects == 0
    assert len([record for record in caplog.records if "no streams here" in record.message]) == 1


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", ["without operators", "Cosmos", "without a start"])
async def test_where_the_best_stream_is_refused_a_smaller_one_pushes(mongo_url: str, driver: str, kind: str) -> None:
    def answer(request: Document) -> Document | None:
        stage = stream_of(request)
        if stage is None:
            return None
        accepted = {
            "without operators": "$bsonSize" not in str(request["pipeline"]),
            "Cosmos": stage.get("fullDocument") == "updateLookup",
            "without a start": "startAtOperationTime" not in stage,
        }
        return None if accepted[kind] else refusal(9)

    async with (
        AnsweringMongoProxy(mongo_url, answer) as proxy,
        Backend(by_driver(proxy.url, driver), **ONLY_PUSH) as backend,
    ):
        await is_woken(backend, "a")
        assert (await backend.capabilities()).push


async def test_a_server_that_no_longer_refuses_pushes_again(mongo_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = True

    def answer(request: Document) -> Document | None:
        return refusal(136) if refused and stream_of(request) is not None else None

    monkeypatch.setattr(subscription, "_SECOND_CHANCE", 0.2)
    async with AnsweringMongoProxy(mongo_url, answer) as proxy, Backend(proxy.url, **ONLY_POLLING) as backend:
        waiter = asyncio.create_task(backend.AsyncResult("a").get(timeout=PATIENCE))
        await until_watched(backend, 1)
        refused = False

        async def pushes() -> bool:
            before = backend.stats().commands
            await asyncio.sleep(0.3)
            return backend.stats().commands == before

        await eventually(pushes)
        await backend.store_result("a", 1, "SUCCESS")
        assert await waiter == 1


@pytest.mark.parametrize("code", [6, 50, 91, 262, 11602, 13436])
async def test_a_server_that_is_not_ready_is_no_refusal(
    mongo_url: str, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    left = [code, code]

    def answer(request: Document) -> Document | None:
        return refusal(left.pop()) if left and stream_of(request) is not None else None

    async with AnsweringMongoProxy(mongo_url, answer) as proxy:
        url = proxy.url + "&heartbeatFrequencyMS=500"  # after such an answer PyMongo waits for the next heartbeat
        async with Backend(url, **ONLY_PUSH) as backend:
            await is_woken(backend, "a")
            assert (await backend.capabilities()).push
    assert not left
    assert not [record for record in caplog.records if "polled" in record.message]


async def test_a_server_that_knows_no_hello_is_asked_as_in_older_versions(mongo_url: str) -> None:
    def answer(request: Document) -> Document | None:
        return refusal(59, "no such command: 'hello'") if "hello" in request else None

    async with AnsweringMongoProxy(mongo_url, answer) as proxy, Backend(proxy.url, **ONLY_PUSH) as backend:
        await is_woken(backend, "a")


# --- throttled requests -----------------------------------------------------------------------------------------------


TOO_MANY = (
    "Error=16500, RetryAfterMs=21, Details='Response status code does not indicate success: TooManyRequests (429)"
)
THROTTLED: dict[str, Document] = {
    "as a whole": refusal(16500, TOO_MANY),
    "one by one": {"ok": 1.0, "n": 0, "nModified": 0, "writeErrors": [{"index": 0, "code": 16500, "errmsg": TOO_MANY}]},
}


@pytest.mark.parametrize("how", THROTTLED)
async def test_a_throttled_write_is_repeated_after_the_pause_that_the_server_names(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    left = 3
    pauses: list[float] = []

    def answer(request: Document) -> Document | None:
        nonlocal left
        if "update" not in request or not left:
            return None
        left -= 1
        return THROTTLED[how]

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with AnsweringMongoProxy(mongo_url, answer) as proxy, Backend(proxy.url) as backend:
        monkeypatch.setattr(connection, "pause", pause)
        results = await asyncio.gather(*(backend.store_result(f"id-{n}", n, "SUCCESS") for n in range(3)))
        assert results == [True] * 3
        assert pauses == [0.021] * 3
        assert (await backend.fetch("id-2")).result == 2


async def test_a_server_that_throttles_for_too_long_is_unavailable(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pause(_seconds: float) -> None:
        pass

    def answer(request: Document) -> Document | None:
        return refusal(16500, "Request rate is large") if "find" in request or "update" in request else None

    monkeypatch.setattr(connection, "pause", pause)
    async with AnsweringMongoProxy(mongo_url, answer) as proxy, Backend(proxy.url) as backend:
        with pytest.raises(StoreUnavailable, match="rate is large"):
            await backend.fetch("a")
        with pytest.raises(StoreUnavailable, match="rate is large"):
            await backend.store_result("a", 1, "SUCCESS")
