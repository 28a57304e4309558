"""The example of Django, as a project under uvicorn: the application beside it, and a view that streams events."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from examples.django.telling import WORDS
from tests.integrations.asgi.web import Browser, seen_in
from tests.servers.process import HOST, free_port

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Start the example by its one command, and end it as an operator would."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.django", "--port", str(port), cwd=ROOT,
        env={**os.environ, "AIORESULT_URL": f"sqlite:///{tmp_path / 'results.db'}"}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    log: list[str] = []
    try:
        while line := (await process.stderr.readline()).decode():
            log.append(line)
            if "running on" in line:
                break
        else:
            pytest.fail("".join(log))
        yield f"http://{HOST}:{port}"
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
        assert process.returncode in (0, -signal.SIGTERM)
        assert "Traceback" not in rest.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
async def browser(url: str) -> AsyncIterator[Browser]:
    browser = Browser(url)
    async with browser.client:
        assert "EventSource" in (await browser.client.get("/")).text
        browser.client.headers["X-CSRFToken"] = browser.client.cookies["csrftoken"]
        yield browser


async def start(browser: Browser, seconds: float) -> str:
    answer = await browser.client.post("/start", params={"seconds": seconds})
    assert answer.status_code == 202
    task_id: str = answer.json()["id"]
    return task_id


async def test_a_page_follows_its_task_by_the_application_and_by_a_view(browser: Browser) -> None:
    task_id = await start(browser, 0.02)
    for path in (f"/results/{task_id}/events", f"/tasks/{task_id}/events"):
        seen = await browser.all(path)
        assert [event.data for event in seen if event.event == "item"] == WORDS
        assert (seen[-1].event, seen[-1].data["status"]) == ("end", "SUCCESS")
        over = await browser.client.get(path, headers={"Last-Event-ID": seen[-1].id})
        assert over.status_code == 204
    third = await browser.all(f"/tasks/{task_id}/events", "3")
    assert [event.data for event in third if event.event == "item"] == WORDS[3:]
    assert (await browser.client.get(f"/results/{task_id}?wait=30")).json()["status"] == "SUCCESS"


async def test_only_who_has_started_a_task_sees_it(browser: Browser, url: str) -> None:
    task_id = await start(browser, 0.0)
    await browser.all(f"/results/{task_id}/events")
    async with httpx.AsyncClient(base_url=url) as other:
        assert (await other.get(f"/results/{task_id}")).json()["status"] == "PENDING"
        assert (await other.get(f"/tasks/{task_id}/events")).status_code == 404
        assert (await other.post(f"/results/{task_id}/revoke")).status_code == 404


async def test_a_project_that_is_told_to_end_does_not_wait_for_its_streams(browser: Browser) -> None:
    task_id = await start(browser, 0.02)
    async with (
        browser.opened(f"/results/{task_id}-other/events") as response,
        browser.opened(f"/tasks/{task_id}/events") as own,
    ):
        assert (await anext(seen_in(own))).event in ("state", "progress", "item")
        assert response.status_code == 200


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_without_a_store_of_ones_own_nothing_is_left(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "AIORESULT_URL"}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    folder = tmp_path / "project"
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.django", "--port", str(port := free_port()), cwd=folder, env=environment,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        while "running on" not in (line := (await process.stderr.readline()).decode()):
            assert line, "it does not start"
        browser = Browser(f"http://{HOST}:{port}")
        async with browser.client:
            await browser.client.get("/")
            browser.client.headers["X-CSRFToken"] = browser.client.cookies["csrftoken"]
            await browser.all(f"/results/{await start(browser, 0.0)}/events")
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert files_in(tmp_path) == []
