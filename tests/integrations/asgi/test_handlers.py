"""Events in handlers of one's own: Starlette, sse-starlette, FastAPI."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterable, AsyncIterator, MutableMapping
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.sse import EventSourceResponse as FastAPIEventSourceResponse
from fastapi.sse import ServerSentEvent
from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from aioresult import Backend, StoreUnavailable, StreamGap
from aioresult.integrations.asgi import Event, Events, InvalidCursor, events
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.web import Browser, seen_in, until


def by_starlette(backend: Backend, response_class: Any = StreamingResponse) -> Starlette:
    async def handler(request: Request) -> Response:
        result = backend.AsyncResult(request.path_params["task_id"])
        try:
            stream = events(result, request.headers.get("last-event-id"))
            if stream.over:
                return Response(status_code=204)
            await stream.check()
        except (InvalidCursor, StreamGap, StoreUnavailable) as exc:
            status = {InvalidCursor: 400, StreamGap: 410, StoreUnavailable: 503}[type(exc)]
            return Response(str(exc), status)
        return response_class(stream, media_type="text/event-stream")  # type: ignore[no-any-return]  # of either

    return Starlette(routes=[Route("/{task_id}/events", handler)])


def by_sse_starlette(backend: Backend) -> Starlette:
    return by_starlette(backend, EventSourceResponse)


LastEventId = Annotated[str | None, Header()]


async def stream_of(request: Request, task_id: str, last_event_id: LastEventId = None) -> Events:
    """What a path operation that yields depends on: it can still answer something else."""
    try:
        stream = events(request.app.state.backend.AsyncResult(task_id), last_event_id, heartbeat=None)
        if stream.over:
            raise HTTPException(204)
        await stream.check()
    except InvalidCursor as exc:
        raise HTTPException(400, str(exc)) from exc
    except StreamGap as exc:
        raise HTTPException(410, str(exc)) from exc
    return stream


def by_fastapi(backend: Backend) -> FastAPI:
    """FastAPI's own server-sent events, by a path operation that yields."""
    app = FastAPI()
    app.state.backend = backend

    @app.get("/{task_id}/events", response_class=FastAPIEventSourceResponse)
    async def handler(stream: Annotated[Events, Depends(stream_of)]) -> AsyncIterable[ServerSentEvent]:
        async for event in stream:
            yield ServerSentEvent(**event.fields())

    return app


def by_returning_from_fastapi(backend: Backend) -> FastAPI:
    app = FastAPI()

    @app.get("/{task_id}/events", response_model=None)
    async def handler(task_id: str, last_event_id: LastEventId = None) -> Response:
        try:
            stream = events(backend.AsyncResult(task_id), last_event_id)
            await stream.check()
        except (InvalidCursor, StreamGap) as exc:
            raise HTTPException(400 if isinstance(exc, InvalidCursor) else 410, str(exc)) from exc
        return Response(status_code=204) if stream.over else FastAPIEventSourceResponse(stream)

    return app


@pytest.fixture(params=[by_starlette, by_sse_starlette, by_fastapi, by_returning_from_fastapi])
async def browser(request: pytest.FixtureRequest, memory: Backend, browse: Open) -> AsyncIterator[Browser]:
    before = asyncio.all_tasks()
    yield await browse(request.param(memory))
    AppStatus.should_exit = True  # sse-starlette looks twice a second whether the process ends, for as long as it lives
    watchers = {task for task in asyncio.all_tasks() - before if "_shutdown_watcher" in repr(task)}
    if watchers:
        await asyncio.wait(watchers)
    AppStatus.should_exit = False


async def test_the_events_arrive_as_those_of_the_application(memory: Backend, browser: Browser) -> None:
    await memory.append("task", "a\nb", "c")
    async with browser.opened("/task/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = seen_in(response)
        assert [(await anext(found)).data for _ in range(2)] == ["a\nb", "c"]
        await memory.update_state("task", "PROGRESS", {"current": 2})
        progress = await anext(found)
        assert (progress.event, progress.data["result"]) == ("progress", {"current": 2})
        await memory.mark_as_done("task", 7)
        assert [(event.event, event.data["result"]) async for event in found] == [("end", 7)]
    rest = await browser.all("/task/events", progress.id)
    assert [event.event for event in rest] == ["end"]
    over = await browser.client.get("/task/events", headers={"Last-Event-ID": rest[-1].id})
    assert (over.status_code, over.content) == (204, b"")
    assert (await browser.client.get("/task/events", headers={"Last-Event-ID": "9"})).status_code == 410
    assert (await browser.client.get("/task/events", headers={"Last-Event-ID": "x"})).status_code == 400


async def test_a_client_that_leaves_frees_its_waiter(memory: Backend, browser: Browser) -> None:
    async with browser.opened("/task/events"):
        await until(lambda: memory.stats().waiting)
        await memory.append("task", 1)
    await until(lambda: not memory.stats().waiting)


async def test_without_heartbeats_nothing_comes_but_events(memory: Backend) -> None:
    await memory.append("task", 1)
    await memory.mark_as_done("task", 2)
    stream = events(memory.AsyncResult("task"), heartbeat=None, retry=None)
    found = [event async for event in stream]
    assert [event.event for event in found] == [None, "item", "end"]
    assert stream.over
    assert all(isinstance(event, bytes) for event in found)


async def test_an_iteration_that_is_given_up_frees_its_waiter(memory: Backend) -> None:
    await memory.append("task", 1)
    stream = events(memory.AsyncResult("task"))
    await anext(stream)
    assert (await anext(stream)).data == "1"
    assert memory.stats().waiting == 1
    await stream.aclose()
    assert memory.stats().waiting == 0


async def test_an_iteration_that_nobody_knows_any_more_frees_its_waiter(memory: Backend) -> None:
    """Frameworks do not close what they iterate where sending fails because the client has left."""

    async def gone(message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            raise OSError("the client has left")

    async def silence() -> dict[str, str]:
        return await never

    never: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    with pytest.raises(ClientDisconnect):
        await StreamingResponse(begun := events(memory.AsyncResult("task")))(scope, silence, gone)
    stream = events(memory.AsyncResult("task"))
    await memory.append("task", 1)
    await anext(stream)
    assert (await anext(stream)).data == "1"
    assert memory.stats().waiting == 1
    del stream, begun

    def nobody_waits() -> bool:
        gc.collect()
        return not memory.stats().waiting

    await until(nobody_waits)


async def test_a_result_that_is_known_to_be_final_is_not_waited_for(memory: Backend) -> None:
    await memory.append("task", 1, 2)
    await memory.mark_as_done("task", 3)
    result = memory.AsyncResult("task")
    await result
    assert [event.event async for event in events(result, "1")] == [None, "item", "end"]


def test_a_cursor_that_is_none_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(InvalidCursor, match="'x' is no cursor"):
        events(Backend("memory://").AsyncResult("task"), "x")


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "\r\n"])
def test_a_name_or_id_that_would_become_another_field_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Event(text, "1")
    with pytest.raises(ValueError, match="one line"):
        Event("item", "1", text)
    assert Event("item", "1\r\n2\r3", "7", comment=text) == b"".join(
        [*(b": %s\n" % line.encode() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")),
         b"id: 7\nevent: item\ndata: 1\ndata: 2\ndata: 3\n\n"]
    )  # fmt: skip
