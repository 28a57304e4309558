"""Real servers of ASGI in the test's own event loop, and a client's view of server-sent events."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, NamedTuple

import httpx
import hypercorn.asyncio
import hypercorn.config
import uvicorn

HOST = "127.0.0.1"
Serving = Callable[..., AbstractAsyncContextManager[str]]


@asynccontextmanager
async def by_uvicorn(app: Any, **settings: Any) -> AsyncIterator[str]:
    """Serve ``app`` by uvicorn, and give its URL."""
    with socket.create_server((HOST, 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **settings))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def by_hypercorn(app: Any, **settings: Any) -> AsyncIterator[str]:
    """Serve ``app`` by hypercorn, and give its URL."""
    config = hypercorn.config.Config.from_mapping(settings)
    with socket.create_server((HOST, 0)) as listener:
        config.bind = [f"fd://{listener.fileno()}"]
        ended = asyncio.Event()
        serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=ended.wait))
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            ended.set()
            await serving
            listener.detach()  # hypercorn has closed it


class Seen(NamedTuple):
    """One event as a browser sees it."""

    event: str
    data: Any
    id: str


async def seen_in(response: httpx.Response) -> AsyncGenerator[Seen, None]:
    """Read events as the standard says: each ends with an empty line; other fields than these mean nothing here."""
    fields: dict[str, str] = {}
    last_id = ""
    async for line in response.aiter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
            last_id = fields.get("id", last_id)
        elif not line:
            if "data" in fields:
                yield Seen(fields.get("event", "message"), json.loads(fields["data"]), last_id)
            fields = {}


class Browser:
    """What opens streams of events and reads them.

    Attributes:
        client: makes the requests.
    """

    def __init__(self, url: str) -> None:
        self.client = httpx.AsyncClient(base_url=url, timeout=60, verify=False)  # plain HTTP

    @asynccontextmanager
    async def opened(self, path: str, last_event_id: str | None = None, **more: Any) -> AsyncIterator[httpx.Response]:
        """Open a stream; the client leaves it at the end of the block."""
        headers = {**more.pop("headers", {}), **({} if last_event_id is None else {"Last-Event-ID": last_event_id})}
        async with self.client.stream("GET", path, headers=headers, **more) as response:
            yield response

    async def all(self, path: str, last_event_id: str | None = None, **more: Any) -> list[Seen]:
        """Read a stream until the server ends it."""
        async with self.opened(path, last_event_id, **more) as response:
            assert response.status_code == 200, (await response.aread(), response.status_code)
            async with aclosing(seen_in(response)) as events:
                return [event async for event in events]


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as ``condition`` holds; the test's own time limit ends the waiting."""
    while not condition():  # noqa: ASYNC110  (no event tells of counters)
        await asyncio.sleep(0.005)
