"""Stopping a task from a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from aioresult import Backend, TaskRunner
from aioresult.integrations.asgi import PUBLIC, Request, ResultsApp
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.test_websockets import everything
from tests.integrations.asgi.web import Browser, Serving, seen_in


async def test_a_task_that_is_stopped_ends_wherever_it_runs(backend: Backend, browse: Open, serving: Serving) -> None:
    closed = asyncio.Event()

    async def talk() -> AsyncIterator[str]:
        try:
            yield "word"
            await asyncio.Event().wait()
        finally:
            closed.set()

    browser = await browse(ResultsApp(backend, PUBLIC, PUBLIC), serving)
    async with TaskRunner(backend) as runner:
        task_id = runner.submit(talk).id
        async with browser.opened(f"/{task_id}/events") as response:
            events = seen_in(response)
            while (await anext(events)).event != "item":
                pass
            answer = await browser.client.post(f"/{task_id}/revoke")
            assert (answer.status_code, answer.json()) == (200, {"id": task_id, "revoked": True})
            *_, end = [event async for event in events]
        await closed.wait()
    assert (end.event, end.data["status"], end.data["error"]["type"]) == ("end", "REVOKED", "TaskRevokedError")
    assert (await browser.client.post(f"/{task_id}/revoke")).json() == {"id": task_id, "revoked": False}


async def test_a_task_that_is_over_stays_as_it_is(memory: Backend, browse: Open) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, PUBLIC))
    await memory.mark_as_done("task", 1)
    assert (await browser.client.post("/task/revoke")).json()["revoked"] is False
    assert (await memory.fetch("task")).status == "SUCCESS"


async def test_without_its_own_authorization_nothing_can_be_stopped(memory: Backend, browser: Browser) -> None:
    await memory.update_state("task", "PROGRESS", 1)
    answer = await browser.client.post("/task/revoke")
    assert answer.status_code == 404
    assert (await memory.fetch("task")).status == "PROGRESS"


@pytest.mark.parametrize("unknown", ["pending", "missing"])
async def test_who_may_not_see_or_not_stop_a_task_stops_nothing(memory: Backend, browse: Open, unknown: Any) -> None:
    def may_see(request: Request, task_id: str) -> bool:
        return task_id != "secret"

    async def may_stop(request: Request, task_id: str) -> bool:
        return task_id != "shown"

    browser = await browse(ResultsApp(memory, may_see, may_stop, unknown=unknown))
    texts = []
    for task_id in ("secret", "shown"):
        await memory.update_state(task_id, "PROGRESS", 1)
        answer = await browser.client.post(f"/{task_id}/revoke")
        assert answer.status_code == 404
        assert (await memory.fetch(task_id)).status == "PROGRESS"
        texts.append(answer.text)
    if unknown == "missing":
        assert texts == [(await browser.client.post("/nobody/revoke")).text] * 2
        assert (await memory.fetch("nobody")).status == "PENDING", "nothing was stored"


async def test_a_page_of_another_site_stops_nothing_unless_it_is_named(memory: Backend, browse: Open) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, PUBLIC, origins=["https://app.example"]))
    await memory.update_state("task", "PROGRESS", 1)
    answer = await browser.client.post("/task/revoke", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert (await memory.fetch("task")).status == "PROGRESS"
    answer = await browser.client.post("/task/revoke", headers={"Origin": "https://app.example"})
    assert answer.json()["revoked"] is True


async def test_stopping_is_for_post_alone(memory: Backend, browse: Open) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, PUBLIC))
    answer = await browser.client.get("/task/revoke")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
    assert (await memory.fetch("task")).status == "PENDING"


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://]", "null", "://", "no url at all"])
async def test_an_origin_that_is_none_is_that_of_another_site(memory: Backend, browse: Open, origin: str) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, PUBLIC))
    await memory.update_state("task", "PROGRESS", 1)
    answer = await browser.client.post("/task/revoke", headers={"Origin": origin})
    assert answer.status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        await everything(browser, "/task", origin=origin)
    assert refused.value.response.status_code == 403
    assert (await memory.fetch("task")).status == "PROGRESS"
