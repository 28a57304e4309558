"""The example of FastAPI and Celery, over real HTTP: results that are awaited, progress that is streamed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integrations.celery.workers import ROOT
from tests.servers import RedisServer
from tests.servers.process import HOST, ServerFailed, free_port

START_TIMEOUT = 60.0
WAIT = 30.0


@pytest.fixture(scope="module", params=["without a server", "on Redis"])
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, celery_redis: RedisServer
) -> Iterator[str]:
    """Start the example by its one command, and end it as an operator would."""
    port = free_port()
    environment = {**os.environ, "C_FORCE_ROOT": "1"}
    if request.param == "on Redis":
        environment["REDIS_URL"] = celery_redis.url.removesuffix("/0") + "/2"
    log = tmp_path_factory.mktemp("example") / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "examples.fastapi_celery", "--port", str(port)]
        example = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        until_it_answers(f"http://{HOST}:{port}", example, log)
        yield f"http://{HOST}:{port}"
        example.send_signal(signal.SIGTERM)
        example.wait(START_TIMEOUT)
        with pytest.raises(ProcessLookupError):  # the worker has ended with it
            os.killpg(example.pid, 0)
    finally:
        if example.poll() is None:
            os.killpg(example.pid, signal.SIGKILL)
            example.wait()


def until_it_answers(url: str, example: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and example.poll() is None:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise ServerFailed(f"the example does not start:\n{log.read_text()[-4000:]}")


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=WAIT) as client:
        yield client


def start(web: httpx.Client, **query: Any) -> dict[str, str]:
    answer = web.post("/reports", params=query)
    assert answer.status_code == 202
    job: dict[str, str] = answer.json()
    return job


def events(web: httpx.Client, path: str, **query: Any) -> list[tuple[str, Any]]:
    """Return what the server sends until it ends the stream."""
    with web.stream("GET", path, params=query) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line.startswith(("event:", "data:"))]
    texts = [line.partition(": ")[2] for line in lines]
    return [(kind, json.loads(data)) for kind, data in zip(texts[::2], texts[1::2], strict=True)]


def test_a_report_is_awaited(web: httpx.Client) -> None:
    answer = web.get(start(web, pages=3, seconds_per_page=0.05)["result"], params={"timeout": WAIT})
    assert (answer.status_code, answer.json()) == (200, {"pages": 3, "words": 900})


def test_progress_is_streamed_until_the_report_is_done(web: httpx.Client) -> None:
    seen = events(web, start(web, pages=5, seconds_per_page=0.2)["progress"])
    assert seen[-1] == ("end", {"status": "SUCCESS", "result": {"pages": 5, "words": 1500}})
    pages = [data["result"]["page"] for kind, data in seen[:-1] if kind == "progress"]
    assert pages
    assert pages == sorted(set(pages)), "each state once, and in order"


def test_a_stream_that_was_seen_to_its_end_is_not_sent_again(web: httpx.Client) -> None:
    path = start(web, pages=1, seconds_per_page=0.05)["progress"]
    with web.stream("GET", path) as stream:
        last = [line.partition(": ")[2] for line in stream.iter_lines() if line.startswith("id:")][-1]
    assert web.get(path, headers={"Last-Event-ID": last}).status_code == 204


def test_a_report_that_takes_longer_is_a_gateway_timeout(web: httpx.Client) -> None:
    answer = web.get("/reports/unknown", params={"timeout": 0.2})
    assert answer.status_code == 504
    assert answer.headers["retry-after"] == "1"
    assert "not ready within 0.2 s" in answer.json()["detail"]


def test_an_id_that_no_report_can_have_is_not_found(web: httpx.Client) -> None:
    answer = web.get(f"/reports/{'x' * 300}", params={"timeout": 0.2})
    assert answer.status_code in (404, 504), "Redis could hold such an id"
    assert "x" * 10 in answer.json()["detail"]


def test_an_error_of_the_task_is_an_error_of_the_request(web: httpx.Client) -> None:
    job = start(web, pages=0)
    answer = web.get(job["result"], params={"timeout": WAIT})
    assert (answer.status_code, answer.json()["detail"]) == (422, "a report has at least one page")
    error = {"type": "ValueError", "message": "a report has at least one page"}
    assert events(web, job["progress"])[-1] == ("end", {"status": "FAILURE", "error": error})


async def test_many_are_awaited_at_once(url: str, web: httpx.Client) -> None:
    jobs = [start(web, pages=2, seconds_per_page=0.1) for _ in range(20)]
    async with httpx.AsyncClient(base_url=url, timeout=WAIT) as client:
        answers = await asyncio.gather(*(client.get(job["result"], params={"timeout": WAIT}) for job in jobs))
    assert [answer.status_code for answer in answers] == [200] * 20


def test_there_is_a_page_to_try_it(web: httpx.Client) -> None:
    answer = web.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "EventSource" in answer.text
