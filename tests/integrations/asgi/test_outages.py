"""A store that is away: streams stay open, and new ones are told to come back."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import connect

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.test_websockets import address
from tests.integrations.asgi.web import seen_in, until
from tests.servers import TcpProxy


async def test_a_stream_outlives_an_outage_of_the_store(redis_url: str, browse: Open) -> None:
    async with TcpProxy(redis_url) as proxy, Backend(proxy.url) as backend, Backend(redis_url) as producer:
        browser = await browse(ResultsApp(backend, PUBLIC, heartbeat=0.05))
        async with browser.opened("/task/events") as response:
            events = seen_in(response)
            await producer.append("task", 1)
            assert (await anext(events)).data == 1
            await proxy.refuse()
            await producer.append("task", 2)
            async with browser.opened("/other/events") as refused:
                assert refused.status_code == 503
                assert refused.headers["retry-after"] == "5"
                text = (await refused.aread()).decode()
            assert "store" in text
            assert str(proxy.port) not in text
            assert "127.0.0.1" not in text
            await proxy.resume()
            await producer.mark_as_done("task", "ready")
            rest = [(event.event, event.data) async for event in events]
        assert rest == [("item", 2), ("end", {"status": "SUCCESS", "result": "ready"})]


async def test_heartbeats_go_on_while_the_store_is_away(redis_url: str, browse: Open) -> None:
    async with TcpProxy(redis_url) as proxy, Backend(proxy.url) as backend:
        await backend.append("task", 1)
        browser = await browse(ResultsApp(backend, PUBLIC, heartbeat=0.02))
        async with browser.opened("/task/events") as response:
            lines = response.aiter_lines()
            while (await anext(lines)) != "data: 1":
                pass
            await proxy.refuse()
            await until(lambda: backend.stats().reconnects)
            beats = 0
            async with asyncio.timeout(30):
                while beats < 5:
                    beats += (await anext(lines)) == ": "


@pytest.mark.parametrize("path", ["/task", "/task?wait=1", "/task/events"])
async def test_a_store_that_was_never_reached_is_said_at_once(browse: Open, redis_url: str, path: str) -> None:
    async with TcpProxy(redis_url) as proxy:
        await proxy.refuse()
        async with Backend(proxy.url) as backend:
            browser = await browse(ResultsApp(backend, PUBLIC))
            answer = await browser.client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            async with connect(address(browser, "/task"), proxy=None) as socket:
                await socket.wait_closed()
            assert socket.close_code == 4503


async def test_a_backend_that_is_closed_ends_the_stream_so_that_the_browser_comes_back(
    memory: Backend, browse: Open
) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC))
    async with browser.opened("/task/events") as response:
        await until(lambda: memory.stats().waiting)
        await memory.aclose()
        assert [event async for event in seen_in(response)] == []


async def test_news_of_an_outage_are_no_news_of_the_task(redis_url: str, browse: Open) -> None:
    async with TcpProxy(redis_url) as proxy, Backend(proxy.url) as backend, Backend(redis_url) as producer:
        browser = await browse(ResultsApp(backend, PUBLIC))
        async with connect(address(browser, "/task"), proxy=None) as socket:
            await producer.update_state("task", "PROGRESS", 1)
            assert json.loads(await socket.recv())["data"]["result"] == 1
            accepted = proxy.accepted
            proxy.cut()
            await proxy.wait_for_connections(accepted + 1)
            await producer.append("task", "item")
            assert json.loads(await socket.recv())["data"] == "item", "the state that was seen is not repeated"
