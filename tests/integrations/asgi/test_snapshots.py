"""Snapshots and long polls, and what is refused as plain HTTP has it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from urllib.parse import quote

import pytest

from aioresult import Backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from tests.integrations.asgi.conftest import Open
from tests.integrations.asgi.web import Browser, Serving, until


async def test_a_snapshot_tells_what_is_stored_now(backend: Backend, browse: Open, serving: Serving) -> None:
    browser = await browse(ResultsApp(backend, PUBLIC), serving)
    get = browser.client.get
    assert (await get("/task")).json() == {"id": "task", "date_done": None, "status": "PENDING", "result": None}
    await backend.update_state("task", "PROGRESS", {"current": 1, "total": 2})
    assert (await get("/task")).json()["result"] == {"current": 1, "total": 2}
    await backend.mark_as_done("task", {"total": 99.5})
    answer = await get("/task")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert datetime.fromisoformat(found.pop("date_done")).tzinfo is not None
    assert found == {"id": "task", "status": "SUCCESS", "result": {"total": 99.5}}


async def test_a_failure_is_an_answer_and_no_failure_of_the_server(memory: Backend, browser: Browser) -> None:
    await memory.mark_as_failure("task", ZeroDivisionError("division by zero"))
    await memory.mark_as_revoked("stopped", "not wanted")
    found = (await browser.client.get("/task")).json()
    assert (found["status"], found["error"]) == (
        "FAILURE", {"type": "ZeroDivisionError", "message": "division by zero"},
    )  # fmt: skip
    assert (await browser.client.get("/stopped")).json()["error"]["message"] == "not wanted"


async def test_process_and_host_of_a_worker_are_not_shown(memory: Backend, browser: Browser) -> None:
    await memory.mark_as_started("task")
    assert (await browser.client.get("/task")).json()["result"] is None
    await memory.mark_as_started("other", pid=1, hostname="db7", note="mine")
    assert (await browser.client.get("/other")).json()["result"] == {"note": "mine"}


async def test_a_long_poll_answers_when_the_task_is_final(backend: Backend, browse: Open, serving: Serving) -> None:
    browser = await browse(ResultsApp(backend, PUBLIC), serving)
    asking = asyncio.create_task(browser.client.get("/task?wait=60"))
    await until(lambda: backend.stats().waiting)
    await backend.update_state("task", "PROGRESS", 1)
    await backend.mark_as_done("task", 7)
    assert (await asking).json()["result"] == 7
    assert backend.stats().waiting == 0


async def test_a_long_poll_answers_with_what_there_is_when_time_is_up(memory: Backend, browse: Open) -> None:
    browser = await browse(app := ResultsApp(memory, PUBLIC, max_wait=0.05))
    await memory.update_state("task", "PROGRESS", 1)
    assert (await browser.client.get("/task?wait=1000")).json()["status"] == "PROGRESS"
    assert (memory.stats().waiting, app.open_streams) == (0, 0)


async def test_a_client_that_leaves_a_long_poll_frees_its_waiter(
    memory: Backend, browse: Open, serving: Serving
) -> None:
    browser = await browse(app := ResultsApp(memory, PUBLIC), serving)
    asking = asyncio.create_task(browser.client.get("/task?wait=60"))
    await until(lambda: memory.stats().waiting)
    asking.cancel()
    await asyncio.wait([asking])
    await until(lambda: not memory.stats().waiting and not app.open_streams)


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "soon", ""])
async def test_a_wait_that_is_no_number_of_seconds_is_a_bad_request(browser: Browser, wait: str) -> None:
    answer = await browser.client.get("/task", params={"wait": wait})
    assert answer.status_code == 400
    assert "wait is a number of seconds" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/", "//", "/task/", "/task/other", "/task/events/", "/task/events/x", "/task/revoke"]
)
async def test_other_paths_are_not_found(browser: Browser, path: str) -> None:
    answer = await browser.client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


@pytest.mark.parametrize("path", ["/task", "/task/events"])
async def test_other_methods_are_refused_and_the_right_ones_named(browser: Browser, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = await browser.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    answer = await browser.client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, "GET, HEAD, OPTIONS", b"")


async def test_head_has_the_headers_of_get(memory: Backend, browser: Browser) -> None:
    await memory.mark_as_done("task", 1)
    head, get = await browser.client.head("/task"), await browser.client.get("/task")
    assert head.content == b""
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}
    assert (await browser.client.head("/")).status_code == 404


@pytest.mark.parametrize("task_id", ["a/b", "a b", "ä-ß-日", "100%", "a?b", "events", "%2F", "x" * 500, "..", "a+b"])
async def test_an_id_may_be_any_text(memory: Backend, browse: Open, serving: Serving, task_id: str) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC), serving)
    await memory.mark_as_done(task_id, 1)
    answer = await browser.client.get(f"/{quote(task_id, safe='') if task_id != '..' else '%2E%2E'}")
    assert (answer.json()["id"], answer.json()["result"]) == (task_id, 1)


async def test_an_id_that_the_store_cannot_hold_is_not_found(browse: Open, tmp_path: object) -> None:
    async with Backend(f"sqlite:///{tmp_path}/results.db") as backend:
        browser = await browse(ResultsApp(backend, PUBLIC))
        for path in (f"/{'x' * 300}", f"/{'x' * 300}/events"):
            assert (await browser.client.get(path)).status_code == 404


async def test_where_each_task_stores_something_at_once_an_id_without_anything_is_not_found(
    memory: Backend, browse: Open
) -> None:
    browser = await browse(ResultsApp(memory, PUBLIC, unknown="missing"))
    for path in ("/task", "/task?wait=60", "/task/events"):
        assert (await browser.client.get(path)).status_code == 404
    await memory.append("task", 1)
    assert (await browser.client.get("/task")).json()["status"] == "PENDING"
