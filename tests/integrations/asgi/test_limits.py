"""Limits: how many connections there may be, and what a slow reader costs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from aioresult.integrations.asgi.request import Receive, Scope, Send
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.web import until


async def test_one_client_can_open_only_so_many_streams(memory: Backend, browse: Open) -> None:
    app = ResultsApp(memory, PUBLIC, max_streams_per_client=2, client=lambda request: request.query["user"])
    browser = await browse(app)
    async with browser.opened("/a/events?user=anna"), browser.opened("/b/events?user=anna"):
        answer = await browser.client.get("/c/events?user=anna")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert "close some" in answer.json()["error"]["message"]
        assert (await browser.client.get("/c?wait=60&user=anna")).status_code == 429
        assert (await browser.client.get("/c?user=anna")).status_code == 200, "a snapshot waits for nothing"
        async with browser.opened("/c/events?user=berta") as response:
            assert response.status_code == 200
    await until(lambda: not app.open_streams)
    async with browser.opened("/c/events?user=anna") as response:
        assert response.status_code == 200


async def test_all_together_can_open_only_so_many_streams(memory: Backend, browse: Open) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, max_streams=1))
    async with browser.opened("/a/events"):
        answer = await browser.client.get("/b/events")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await browser.client.get("/b/events", headers={"Last-Event-ID": "1-end"})).status_code == 204


class Counting:
    """An application around another one, which counts the bytes that are sent."""

    def __init__(self, app: ResultsApp) -> None:
        self._app = app
        self.sent = 0
        self.largest = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Any) -> None:
            size = len(message.get("body", b""))
            self.sent += size
            self.largest = max(self.largest, size)
            await send(message)

        await self._app(scope, receive, counting)


ITEM = "x" * 10_000
ITEMS = 3_000


class SlowClient:
    """A client that asks for events and takes nothing until it is told to."""

    def __init__(self, url: str, path: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._address = (parts.hostname, parts.port)
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    async def ask(self) -> None:
        self.socket.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, self._address)
        await loop.sock_sendall(self.socket, self._request)

    async def read_until(self, found: Callable[[bytes], bool]) -> bytes:
        data = bytearray()
        while chunk := await asyncio.get_running_loop().sock_recv(self.socket, 2**20):
            data += chunk
            if found(chunk):
                break
        return bytes(data)


@pytest.mark.slow
async def test_a_slow_reader_costs_a_number_and_no_growing_buffer(backend: Backend, browse: Open) -> None:
    app = Counting(ResultsApp(backend, PUBLIC))
    browser = await browse(app)
    client = SlowClient(str(browser.client.base_url), "/task/events")
    with client.socket:
        await client.ask()
        await until(lambda: backend.stats().waiting)
        for _ in range(ITEMS // 100):
            await backend.append("task", *[ITEM] * 100)
        held_back = app.sent
        assert held_back < ITEMS * len(ITEM) / 3, "the rest is in the store, and not in this process"
        await backend.mark_as_done("task", None)
        data = await client.read_until(lambda chunk: b"event: end" in chunk)
    assert data.count(b"event: item") == ITEMS
    assert app.largest < 2**16 + 2 * len(ITEM)


async def test_a_client_that_takes_nothing_for_too_long_is_left(
    memory: Backend, browse: Open, caplog: pytest.LogCaptureFixture
) -> None:
    browser = await browse(app := ResultsApp(memory, PUBLIC, send_timeout=0.1))
    client = SlowClient(str(browser.client.base_url), "/task/events")
    with client.socket, caplog.at_level("INFO", "aioresult"):
        await client.ask()
        for _ in range(ITEMS // 100):
            await memory.append("task", *[ITEM] * 100)
        await until(lambda: "took nothing for 0.1 s" in caplog.text)
        await until(lambda: not app.open_streams and not memory.stats().waiting)


async def test_a_client_that_does_not_take_the_end_is_left_too(
    memory: Backend, browse: Open, caplog: pytest.LogCaptureFixture
) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, send_timeout=0.1))
    await memory.mark_as_done("task", "x" * 2**23)
    client = SlowClient(str(browser.client.base_url), "/task/events")
    with client.socket, caplog.at_level("INFO", "aioresult"):
        await client.ask()
        await until(lambda: "took nothing for 0.1 s" in caplog.text)
