"""Who may see a task: what is refused looks like what is not there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, Request, ResultsApp
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.web import Browser, seen_in, until


def test_an_application_is_not_built_without_saying_who_may_see_what() -> None:
    backend = Backend("memory://")
    with pytest.raises(TypeError, match="authorize"):
        ResultsApp(backend)  # type: ignore[call-arg]  # which is the point
    with pytest.raises(TypeError, match="PUBLIC"):
        ResultsApp(backend, authorize=None)  # type: ignore[arg-type]  # the same
    ResultsApp(backend, PUBLIC)


def refuse(request: Request, task_id: str) -> bool:
    return task_id != "secret"


async def refuse_later(request: Request, task_id: str) -> bool:
    await asyncio.sleep(0)
    return task_id != "secret"


@pytest.mark.parametrize("unknown", ["pending", "missing"])
@pytest.mark.parametrize("authorize", [refuse, refuse_later])
async def test_a_refused_task_looks_like_an_unknown_one(
    memory: Backend, browse: Open, unknown: Any, authorize: Any
) -> None:
    browser = await browse(ResultsApp(memory, authorize, PUBLIC, unknown=unknown, max_wait=0.05))
    await memory.append("secret", "item")
    await memory.mark_as_done("secret", "value")
    for path in ("/{}", "/{}?wait=1", "/{}/events?after=1", "/{}/events?after=1-end", "/{}/events?after=x"):
        refused, not_there = [await browser.client.get(path.format(task_id)) for task_id in ("secret", "nobody")]
        assert refused.status_code == not_there.status_code
        assert refused.text.replace("secret", "nobody") == not_there.text
        assert {**refused.headers, "date": ""} == {**not_there.headers, "date": ""}


async def test_the_events_of_a_refused_task_are_waited_for_like_those_of_an_unknown_one(
    memory: Backend, browse: Open
) -> None:
    browser = await browse(ResultsApp(memory, refuse, heartbeat=0.01))
    await memory.mark_as_done("secret", "value")
    for path in ("/secret/events", "/nobody/events"):
        async with browser.opened(path) as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(5)] == [": aioresult", "retry: 2000", "", ": ", ""]
    await until(lambda: not memory.stats().waiting)


async def test_authorize_sees_the_request(memory: Backend, browse: Open) -> None:
    seen: list[Request] = []

    def authorize(request: Request, task_id: str) -> bool:
        seen.append(request)
        return True

    browser = await browse(ResultsApp(memory, authorize))
    headers = [("X-Token", "one"), ("X-Token", "two"), ("Cookie", 'session=abc; quoted="a b"; flag')]
    await browser.client.get("/ta%20sk?a=1&b=&a=2", headers=headers)
    (request,) = seen
    assert (request.method, request.path, request.client) == ("GET", "/ta sk", "127.0.0.1")
    assert request.query == request.query_params == {"a": "2", "b": ""}
    assert request.headers["x-token"] == request.headers["X-Token"] == "one, two"
    assert "X-TOKEN" in request.headers
    assert request.headers.get("missing") is None
    assert request.cookies == {"session": "abc", "quoted": "a b"}
    assert request.user is None
    assert request.scope["type"] == "http"


async def test_what_authorize_raises_is_answered_by_the_application_around(memory: Backend, browse: Open) -> None:
    def authorize(request: Request, task_id: str) -> bool:
        if "authorization" not in request.headers:
            raise HTTPException(401, "log in first", headers={"WWW-Authenticate": "Bearer"})
        return True

    app = Starlette(routes=[Mount("/results", ResultsApp(memory, authorize))])
    browser = await browse(app)
    answer = await browser.client.get("/results/task/events")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (await browser.client.get("/results/task", headers={"Authorization": "x"})).status_code == 200


async def test_an_authorize_that_forgets_to_answer_refuses(memory: Backend, browse: Open) -> None:
    await memory.mark_as_done("task", "value")
    browser = await browse(ResultsApp(memory, lambda request, task_id: None))  # type: ignore[arg-type,return-value]
    assert (await browser.client.get("/task")).json()["status"] == "PENDING"


async def test_two_clients_see_what_each_may_see(memory: Backend, browse: Open) -> None:
    await memory.mark_as_done("anna-1", "hers")

    def authorize(request: Request, task_id: str) -> bool:
        return task_id.partition("-")[0] == request.cookies.get("user")

    browser: Browser = await browse(ResultsApp(memory, authorize, heartbeat=0.01))
    found = await browser.all("/anna-1/events", headers={"Cookie": "user=anna"})
    assert [event.data["result"] for event in found] == ["hers"]
    async with browser.opened("/anna-1/events", headers={"Cookie": "user=berta"}) as response:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(seen_in(response))
