"""Events over WebSockets."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.web import Browser, Serving, until


def address(browser: Browser, path: str) -> str:
    return str(browser.client.base_url.copy_with(scheme="ws")).rstrip("/") + path


async def everything(browser: Browser, path: str, **settings: Any) -> tuple[list[dict[str, Any]], int]:
    """Return what is sent until the server closes, and with which code it does."""
    found: list[dict[str, Any]] = []
    async with connect(address(browser, path), proxy=None, **settings) as socket:
        with suppress(ConnectionClosed):  # which tells of other codes than 1000
            async for text in socket:
                found.append(json.loads(text))  # noqa: PERF401  (what came before counts)
        return found, int(socket.close_code or 0)


async def test_the_events_are_those_of_the_stream_of_events(backend: Backend, browse: Open, serving: Serving) -> None:
    browser = await browse(ResultsApp(backend, PUBLIC), serving)
    await backend.append("task", "a", "b")
    await backend.mark_as_done("task", {"total": 2})
    found, code = await everything(browser, "/task")
    assert (found, code) == (
        [
            {"event": "item", "id": "1", "data": "a"},
            {"event": "item", "id": "2", "data": "b"},
            {"event": "end", "id": "2-end", "data": {"status": "SUCCESS", "result": {"total": 2}}},
        ],
        1000,
    )
    assert await everything(browser, "/task?after=1") == (found[1:], 1000)
    assert await everything(browser, "/task?after=2-end") == ([], 1000)


async def test_events_come_as_they_happen_and_what_a_client_says_means_nothing(
    memory: Backend, browse: Open, serving: Serving
) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, heartbeat=0.01), serving)
    async with connect(address(browser, "/task"), proxy=None) as socket:
        await until(lambda: memory.stats().waiting)
        await socket.send('{"revoke": true}')
        await memory.update_state("task", "PROGRESS", 1)
        assert json.loads(await socket.recv())["event"] == "progress"
        assert (await memory.fetch("task")).status == "PROGRESS"
    await until(lambda: not memory.stats().waiting)


@pytest.mark.parametrize(
    ("path", "code"),
    [("/task?after=x", 4400), ("/", 4404), ("/task/events", 4404), ("/task?after=7", 4410), ("/secret", 4404)],
)
async def test_what_cannot_be_served_is_closed_with_a_code_that_says_why(
    memory: Backend, browse: Open, path: str, code: int
) -> None:
    app = ResultsApp(memory, lambda request, task_id: task_id != "secret", unknown="missing")
    await memory.mark_as_done("task", 1)
    await memory.mark_as_done("secret", 1)
    assert await everything(await browse(app), path) == ([], code)


@pytest.mark.parametrize("character", ["x", "\u20ac", "\U0001f600"])
async def test_a_reason_is_cut_where_it_is_longer_than_a_websocket_can_tell(
    memory: Backend, browse: Open, serving: Serving, character: str
) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC), serving)
    async with connect(address(browser, f"/task?after={quote(character * 100)}"), proxy=None) as socket:
        await socket.wait_closed()
    assert socket.close_code == 4400
    assert (socket.close_reason or "").startswith("'" + character * 20)


async def test_pages_of_other_sites_cannot_open_one_unless_they_are_named(memory: Backend, browse: Open) -> None:
    await memory.mark_as_done("task", 1)
    browser = await browse(ResultsApp(memory, PUBLIC))
    with pytest.raises(InvalidStatus) as refused:
        await everything(browser, "/task", origin="https://evil.example")
    assert refused.value.response.status_code == 403
    own = str(browser.client.base_url).rstrip("/")
    assert (await everything(browser, "/task", origin=own))[1] == 1000
    friendly = await browse(ResultsApp(memory, PUBLIC, origins=["https://app.example"]))
    assert (await everything(friendly, "/task", origin="https://app.example"))[1] == 1000


async def test_there_is_a_limit_of_sockets_too(memory: Backend, browse: Open) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, max_streams_per_client=1))
    async with connect(address(browser, "/task"), proxy=None):
        await until(lambda: memory.stats().waiting)
        assert await everything(browser, "/task") == ([], 4429)
