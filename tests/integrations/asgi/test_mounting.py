"""Inside other applications: mounted, behind middleware, under a root path."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from websockets.asyncio.client import connect

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.test_websockets import address, everything
from tests.integrations.asgi.web import Serving, by_hypercorn, by_uvicorn, until


def in_starlette(results: ResultsApp) -> Starlette:
    return Starlette(routes=[Mount("/api", routes=[Mount("/results", results)])])


def in_fastapi(results: ResultsApp) -> FastAPI:
    app = FastAPI()
    api = FastAPI()
    api.mount("/results", results)
    app.mount("/api", api)
    return app


@pytest.mark.parametrize("around", [in_starlette, in_fastapi])
@pytest.mark.parametrize(
    ("server", "settings"),
    [(by_uvicorn, {}), (by_uvicorn, {"root_path": "/proxied"}), (by_hypercorn, {})],
    ids=["uvicorn", "uvicorn with a root path", "hypercorn"],
)
async def test_mounted_it_finds_the_id_behind_its_own_place(
    memory: Backend, browse: Open, around: Any, server: Serving, settings: dict[str, str]
) -> None:
    await memory.append("a/b", 1)
    await memory.mark_as_done("a/b", 2)
    browser = await browse(around(ResultsApp(memory, PUBLIC)), server, **settings)
    assert (await browser.client.get("/api/results/a%2Fb")).json()["id"] == "a/b"
    assert [event.event for event in await browser.all("/api/results/a%2Fb/events")] == ["item", "end"]
    assert (await everything(browser, "/api/results/a%2Fb"))[1] == 1000
    for path in ("/api/results/", "/api/results", "/api/results/a/b", "/api/resultsx/a"):
        assert (await browser.client.get(path, follow_redirects=True)).status_code == 404


@pytest.mark.parametrize(
    "scope",
    [
        {"path": "/x/task", "root_path": "/x", "raw_path": b"/x/task"},
        {"path": "/x/task", "root_path": "/x/"},
        {"path": "/task", "root_path": "/x"},
        {"path": "/task", "root_path": ""},
        {"path": "/task"},
        {"path": "/x/task", "root_path": "/x", "raw_path": b"/old/prefix/x/task"},
        {"path": "/x/task", "root_path": "/x", "raw_path": b"/x/task?a=1"},
        {"path": "/x/task", "root_path": "/x", "raw_path": None},
    ],
)
async def test_servers_and_frameworks_give_the_path_in_several_ways(memory: Backend, scope: dict[str, Any]) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("there is nothing to receive")

    full = {"type": "http", "method": "GET", "headers": [], "query_string": b"", **scope}
    await ResultsApp(memory, PUBLIC)(full, receive, send)
    assert sent[0]["status"] == 200
    assert b'"id":"task"' in sent[1]["body"]


async def test_a_middleware_that_compresses_leaves_events_alone(memory: Backend, browse: Open) -> None:
    results = ResultsApp(memory, PUBLIC)
    app = Starlette(
        routes=[Mount("/", results)], middleware=[Middleware(GZipMiddleware, minimum_size=1, compresslevel=1)]
    )
    browser = await browse(app)
    async with browser.opened("/task/events", headers={"Accept-Encoding": "gzip"}) as response:
        assert "content-encoding" not in response.headers
        await until(lambda: memory.stats().waiting)
        await memory.append("task", 1)
        lines = response.aiter_lines()
        while (await anext(lines)) != "data: 1":
            pass
    await memory.mark_as_done("task", "x" * 1000)
    request = browser.client.build_request("GET", "/task", headers={"Accept-Encoding": "gzip"})
    answer = await browser.client.send(request, stream=True)
    raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert b"xxx" in gzip.decompress(raw), "the middleware is at work"


async def test_pages_of_other_sites_are_the_business_of_the_middleware_for_cors(memory: Backend, browse: Open) -> None:
    cors = Middleware(
        CORSMiddleware, allow_origins=["https://app.example"], allow_credentials=True, allow_methods=["GET", "POST"]
    )
    browser = await browse(Starlette(routes=[Mount("/", ResultsApp(memory, PUBLIC))], middleware=[cors]))
    await memory.mark_as_done("task", 1)
    origin = {"Origin": "https://app.example"}
    for path in ("/task", "/task/events"):
        answer = await browser.client.get(path, headers=origin)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        other = await browser.client.get(path, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
    preflight = await browser.client.options(
        "/task/revoke", headers={**origin, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]


async def test_behind_a_middleware_that_wraps_responses_a_client_that_leaves_frees_its_waiter(
    memory: Backend, browse: Open
) -> None:
    async def passing(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    app = ResultsApp(memory, PUBLIC)
    around = Starlette(routes=[Mount("/", app)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)])
    browser = await browse(around)
    async with browser.opened("/task/events") as response:
        await until(lambda: memory.stats().waiting)
        assert response.status_code == 200
    await until(lambda: not memory.stats().waiting and not app.open_streams)


async def test_behind_such_a_middleware_a_client_that_leaves_while_it_waits_is_no_error(
    memory: Backend, browse: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async def passing(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        passed.append(response.status_code)
        return response

    passed: list[int] = []
    app = ResultsApp(memory, PUBLIC)
    around = Starlette(routes=[Mount("/", app)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)])
    browser = await browse(around)
    asking = asyncio.create_task(browser.client.get("/task?wait=60"))
    await until(lambda: memory.stats().waiting)
    asking.cancel()
    await until(lambda: passed or caplog.records)
    assert passed == [204]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_over_http2_events_come_and_a_client_that_leaves_frees_its_waiter(memory: Backend, browse: Open) -> None:
    app = ResultsApp(memory, PUBLIC)
    browser = await browse(app, by_hypercorn)
    async with (
        httpx.AsyncClient(base_url=browser.client.base_url, http1=False, http2=True) as client,
        client.stream("GET", "/task/events") as response,
    ):
        assert response.http_version == "HTTP/2"
        await until(lambda: memory.stats().waiting)
        await memory.append("task", 1)
        lines = response.aiter_lines()
        while (await anext(lines)) != "data: 1":
            pass
    await until(lambda: not memory.stats().waiting and not app.open_streams)


@pytest.mark.filterwarnings("ignore:Using `httpx`")
def test_starlettes_test_client_can_be_used() -> None:
    from starlette.testclient import TestClient  # which warns when it is imported

    async def prepared(backend: Backend) -> None:
        await backend.append("task", 1)
        await backend.mark_as_done("task", 2)

    backend = Backend("memory://shared-by-loops")
    with TestClient(ResultsApp(backend, PUBLIC)) as client:
        assert client.portal is not None
        client.portal.call(prepared, backend)
        assert client.get("/task").json()["result"] == 2
        assert client.get("/task/events").text.count("event: ") == 2
        with client.websocket_connect("/task") as socket:
            assert [socket.receive_json()["event"] for _ in range(2)] == ["item", "end"]


async def test_a_kind_of_connection_that_it_does_not_know_is_an_error(memory: Backend) -> None:
    with pytest.raises(ValueError, match="not 'mqtt'"):
        await ResultsApp(memory, PUBLIC)({"type": "mqtt"}, None, None)  # type: ignore[arg-type]  # never called


async def test_the_sockets_of_a_mounted_application_open(memory: Backend, browse: Open) -> None:
    browser = await browse(in_starlette(ResultsApp(memory, PUBLIC)))
    async with connect(address(browser, "/api/results/task"), proxy=None):
        await until(lambda: memory.stats().waiting)
