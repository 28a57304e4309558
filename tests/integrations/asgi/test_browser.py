"""What only a real browser does: cookies, other origins, and two hundred EventSources of one page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, Response

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, Request, ResultsApp
from aioresult.testing.conformance import eventually
from tests.integrations.asgi.web import HOST, by_hypercorn, by_uvicorn, until
from tests.servers import RedisServer
from tests.servers.chromium import Chromium, Page

PAGES, EACH = 4, 50
FOLLOW = f"""
window.waiting = [];
for (let number = 0; number < {EACH}; number++) waiting.push(events(`/results/task-${{number}}/events`));
undefined
"""
EVENTS = """
function events(url, options) {  // the names and data of the events until the end; "closed" where the browser gives up
  return new Promise((resolve) => {
    const seen = [], source = new EventSource(url, options);
    for (const name of ["state", "progress", "item", "end"])
      source.addEventListener(name, (event) => {
        seen.push([name, JSON.parse(event.data)]);
        if (name === "end") { source.close(); resolve(seen); }
      });
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve("closed"); };
  });
}
"""


def with_page(app: FastAPI) -> FastAPI:
    """Add an empty page, from which scripts ask."""

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse(f"<!doctype html><link rel=icon href='data:,'><title>page</title><script>{EVENTS}</script>")

    return app


class Sites(NamedTuple):
    """Where the results are, a page that may ask for them, and one that may not."""

    results: str
    friend: str
    stranger: str


def has_cookie(request: Request, task_id: str) -> bool:
    return request.cookies.get("user") == task_id.partition("-")[0]


@pytest.fixture
async def sites(memory: Backend) -> AsyncIterator[Sites]:
    """Serve results to whoever has logged in, and to the pages of one other origin; pages are at three origins."""
    async with AsyncExitStack() as stack:
        friend = await stack.enter_async_context(by_uvicorn(with_page(FastAPI())))
        stranger = await stack.enter_async_context(by_uvicorn(with_page(FastAPI())))
        app = with_page(FastAPI())
        app.add_middleware(CORSMiddleware, allow_origins=[friend], allow_credentials=True)
        app.mount("/results", ResultsApp(memory, has_cookie, has_cookie, origins=[friend]))

        @app.get("/login")
        async def login(user: str) -> Response:
            response = Response()
            response.set_cookie("user", user, httponly=True, samesite="lax")
            return response

        yield Sites(await stack.enter_async_context(by_uvicorn(app)), friend, stranger)


async def run(page: Page, script: str) -> Any:
    return await asyncio.to_thread(page.run, script)


async def open_page(chromium: Chromium, url: str, visitor: str) -> Page:
    return await asyncio.to_thread(chromium.page, f"{url}/page", visitor)


async def test_a_cookie_says_who_may_see_and_stop_a_task(chromium: Chromium, sites: Sites, memory: Backend) -> None:
    await memory.append("anna-1", "hello")
    await memory.store_result("anna-1", 42, "SUCCESS")
    anna, berta = chromium.visitor(), chromium.visitor()
    for visitor, user in ((anna, "anna"), (berta, "berta")):
        page = await open_page(chromium, sites.results, visitor)
        await run(page, f"fetch('/login?user={user}')")
        shown = await run(page, "fetch('/results/anna-1').then((answer) => answer.json())")
        stopped = await run(page, "fetch('/results/anna-1/revoke', {method: 'POST'}).then((answer) => answer.status)")
        if user == "anna":
            assert (shown["status"], shown["result"], stopped) == ("SUCCESS", 42, 200)
            seen = await run(page, "events('/results/anna-1/events')")
            assert seen == [["item", "hello"], ["end", {"status": "SUCCESS", "result": 42}]]
        else:
            assert (shown["status"], stopped) == ("PENDING", 404)
        await asyncio.to_thread(page.close)


async def test_a_page_of_another_origin_is_served_with_credentials(
    chromium: Chromium, sites: Sites, memory: Backend
) -> None:
    await memory.append("anna-2", "hello")
    page = await open_page(chromium, sites.friend, chromium.visitor())
    await run(page, f"fetch('{sites.results}/login?user=anna', {{credentials: 'include'}})")
    url = f"{sites.results}/results/anna-2"
    assert (await run(page, f"fetch('{url}').then((answer) => answer.json())"))["status"] == "PENDING", "no cookie"
    stop = f"fetch('{url}/revoke', {{method: 'POST', credentials: 'include'}}).then((answer) => answer.json())"
    assert await run(page, stop) == {"id": "anna-2", "revoked": True}
    seen = await run(page, f"events('{url}/events', {{withCredentials: true}})")
    assert seen[0] == ["item", "hello"]
    assert seen[1][1]["error"]["type"] == "TaskRevokedError"
    await asyncio.to_thread(page.close)


async def test_a_page_of_a_strange_origin_sees_and_stops_nothing(
    chromium: Chromium, sites: Sites, memory: Backend
) -> None:
    await memory.append("anna-3", "hello")
    visitor = chromium.visitor()
    own = await open_page(chromium, sites.results, visitor)
    await run(own, "fetch('/login?user=anna')")
    page = await open_page(chromium, sites.stranger, visitor)
    url = f"{sites.results}/results/anna-3"
    assert await run(page, f"events('{url}/events', {{withCredentials: true}})") == "closed"
    stop = f"fetch('{url}/revoke', {{method: 'POST', credentials: 'include', mode: 'no-cors'}}).then(() => 'sent')"
    assert await run(page, stop) == "sent"
    assert await memory.AsyncResult("anna-3").status() == "PENDING"
    assert await run(own, "fetch('/results/anna-3/revoke', {method: 'POST'}).then((answer) => answer.status)") == 200
    for each in (own, page):
        await asyncio.to_thread(each.close)


def subscribed(server: RedisServer) -> list[str]:
    """Return of each connection of the store whether it is subscribed to anything."""
    clients = str(server.call("CLIENT", "LIST"))
    return sorted("subscribed" if int(count) else "not" for count in re.findall(r"\bsub=(\d+)", clients))


async def is_subscribed(server: RedisServer) -> bool:
    return "subscribed" in await asyncio.to_thread(subscribed, server)


async def test_two_hundred_event_sources_are_one_subscription(
    chromium: Chromium, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Over HTTP/2, since browsers open six connections for each site otherwise."""
    certificate = trustme.CA().issue_cert(HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    tls = {"certfile": str(tmp_path / "pem"), "keyfile": str(tmp_path / "pem")}
    async with Backend(redis_url) as backend:
        app = with_page(FastAPI())
        results = ResultsApp(backend, PUBLIC)
        app.mount("/results", results)
        async with by_hypercorn(app, **tls) as url, AsyncExitStack() as stack:
            pages: list[Page] = []
            before: list[str] = []
            for _ in range(PAGES):
                visitor = chromium.visitor()
                stack.push_async_callback(asyncio.to_thread, chromium.forget, visitor)
                pages.append(await open_page(chromium, url.replace("http:", "https:"), visitor))
                await run(pages[-1], FOLLOW)
                await until(lambda: results.open_streams == len(pages) * EACH)
                if not before:
                    await backend.append("task-0", "first")
                    await eventually(
                        partial(is_subscribed, redis_server)
                    )  # the subscription is opened behind the first answer
                    before = await asyncio.to_thread(subscribed, redis_server)
            await asyncio.gather(*(backend.append(f"task-{number}", number, "word") for number in range(EACH)))
            during = await asyncio.to_thread(subscribed, redis_server)
            assert during == before
            assert during.count("subscribed") == 1
            await asyncio.gather(*(backend.store_result(f"task-{number}", None, "SUCCESS") for number in range(EACH)))
            for page in pages:
                for number, seen in enumerate(await run(page, "Promise.all(waiting)")):
                    words = [*([] if number else ["first"]), number, "word"]
                    assert [data for name, data in seen if name == "item"] == words
                    assert seen[-1] == ["end", {"status": "SUCCESS", "result": None}]
