"""Servers that end: streams end with them, cleanly, and hold nothing up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp, events
from aioresult.integrations.asgi.request import Message
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.test_websockets import address
from tests.integrations.asgi.web import Browser, seen_in, until
from tests.servers.process import HOST, free_port

ROOT = Path(__file__).parents[3]
SERVERS = {
    "uvicorn": ["-m", "uvicorn", "--host", HOST, "--port", "{port}", "--log-level", "info"],
    "hypercorn": ["-m", "hypercorn", "--bind", f"{HOST}:{{port}}", "--graceful-timeout", "1000000", "--workers", "0"],
}


@asynccontextmanager
async def started(server: str, url: str) -> AsyncIterator[tuple[Browser, asyncio.subprocess.Process]]:
    """Run a server as a process, as an operator does."""
    port = free_port()
    command = [part.format(port=port) for part in SERVERS[server]]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "tests.integrations.asgi.application:app", cwd=ROOT,
        env={**os.environ, "AIORESULT_URL": url}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    browser = Browser(f"http://{HOST}:{port}")
    try:
        assert process.stderr is not None
        while line := (await process.stderr.readline()).decode():
            if "unning on" in line:
                break
        async with browser.client:
            yield browser, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_that_is_told_to_end_ends_its_streams_and_itself(
    server: str, redis_url: str, number: signal.Signals
) -> None:
    async with (
        Redis.from_url(redis_url) as redis,
        Backend(redis_url) as producer,
        started(server, redis_url) as (browser, process),
        browser.opened("/task/events") as response,
        browser.opened("/own/task") as own_response,
        browser.opened("/sse/task") as sse_response,
        connect(address(browser, "/task"), proxy=None) as socket,
    ):
        await producer.append("task", 1)
        events = seen_in(response)
        assert (await anext(events)).id == "1"
        await socket.recv()
        own_events, sse_events = seen_in(own_response), seen_in(sse_response)
        assert (await anext(own_events)).id == (await anext(sse_events)).id == "1"
        polling = asyncio.create_task(browser.client.get("/polled?wait=60"))
        while not (await redis.pubsub_numsub("celery-task-meta-polled"))[0][1]:  # noqa: ASYNC110  (in another process)
            await asyncio.sleep(0.005)
        process.send_signal(number)
        assert [event async for event in events] == [], "the answer is ended, and not broken off"
        assert [event async for event in own_events] == []
        assert [event async for event in sse_events] == []
        assert (await polling).json()["status"] == "PENDING"
        await socket.wait_closed()
        assert socket.close_code == 1012
        assert await process.wait() in (0, -number)


async def test_signals_are_left_to_the_server_where_there_are_no_streams(memory: Backend, browse: Open) -> None:
    app = ResultsApp(memory, PUBLIC)
    browser = await browse(app)
    assert (await browser.client.get("/task")).status_code == 200  # so that the server has put its handlers up
    servers_own = signal.getsignal(signal.SIGTERM)
    async with browser.opened("/task/events"):
        await until(lambda: memory.stats().waiting)
        assert signal.getsignal(signal.SIGTERM) is not servers_own
        async with browser.opened("/other/events"):
            pass
    await until(lambda: not app.open_streams)
    assert signal.getsignal(signal.SIGTERM) is servers_own


async def test_the_next_server_of_a_process_is_heard_though_the_last_one_put_its_handlers_back(memory: Backend) -> None:
    """A server that is forced to end does so while streams are open."""
    told: list[str] = []
    original = signal.signal(signal.SIGTERM, lambda *_: told.append("first server"))
    try:
        left_open = events(memory.AsyncResult("task"))
        await anext(left_open)
        signal.signal(signal.SIGTERM, lambda *_: told.append("second server"))
        await left_open.aclose()
        stream = events(memory.AsyncResult("task"))
        await anext(stream)
        signal.raise_signal(signal.SIGTERM)
        assert [event async for event in stream] == [], "it ends, and its task has not"
        assert told == ["second server"]
    finally:
        signal.signal(signal.SIGTERM, original)


async def test_the_lifespan_ends_the_streams(memory: Backend) -> None:
    """Of a server that tells the application before it waits for its connections."""
    app = ResultsApp(memory, PUBLIC)
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    living = asyncio.create_task(app({"type": "lifespan"}, inbox.get, send))
    inbox.put_nowait({"type": "lifespan.startup"})
    never: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def receive() -> dict[str, str]:
        return await never

    bodies: list[object] = []

    async def take(message: Message) -> None:
        bodies.append(message)

    scope = {"type": "http", "method": "GET", "path": "/task/events", "headers": [], "query_string": b""}
    streaming = asyncio.create_task(app(scope, receive, take))
    await until(lambda: memory.stats().waiting)
    inbox.put_nowait({"type": "lifespan.shutdown"})
    await streaming
    await living
    assert bodies[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
    await app(scope, receive, take)
    assert bodies[-1] == {"type": "http.response.body", "body": b"", "more_body": False}, "later ones end at once"
