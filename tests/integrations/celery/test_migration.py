"""The code of the migration page runs as it is written there."""

from __future__ import annotations

import inspect
import re
import sys
from types import ModuleType
from typing import Any

import httpx
import pytest
from celery import Celery
from celery.result import AsyncResult as CeleryResult
from celery.result import GroupResult as CeleryGroup
from fastapi import FastAPI

from aioresult import AsyncResult, Record
from tests.integrations.celery.conftest import broker_settings
from tests.integrations.celery.workers import ROOT, Worker, application
from tests.servers import RedisServer

PAGE = (ROOT / "docs" / "howto" / "celery.md").read_text()


def block(first_line: str) -> str:
    """Return the block of code that begins so."""
    found = re.search(rf"```python\n({re.escape(first_line)}\n.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def shop(app: Celery) -> ModuleType:
    """Return the module that the page imports its task from."""
    module = ModuleType("shop.tasks")
    module.__dict__.update(app=app, charge=app.tasks["tests.charge"])
    return module


async def test_the_handler_awaits_the_task_and_says_when_it_cannot(
    celery_redis: RedisServer, keyprefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer() as broker:
        settings = {**broker_settings(broker, keyprefix), "backend": celery_redis.url}
        with Worker(**settings), application(**settings) as app:
            monkeypatch.setitem(sys.modules, "shop.tasks", shop(app))
            namespace: dict[str, Any] = {}
            exec(block("# after"), namespace)
            web = namespace["web"]
            async with web.router.lifespan_context(web), browser(web) as client:
                answer = await client.post("/orders/7/charge")
                assert (answer.status_code, answer.json()) == (200, {"receipt": "for 7"})
                broker.stop()
                answer = await client.post("/orders/7/charge")
                assert answer.status_code == 503
                assert f"{broker.port}" in answer.json()["detail"]


def section(title: str) -> str:
    found = re.search(rf"## {re.escape(title)}\n(.*?)\n## ", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_each_attribute_of_celerys_result_has_its_row_and_each_name_in_it_exists() -> None:
    table = section("What becomes of each attribute")
    attributes = {name for name, value in inspect.getmembers(CeleryResult) if name[0] != "_" and not callable(value)}
    assert attributes == set(re.findall(r"(?<=`\.)\w+(?=`)", table))
    for owner, cls in (("record", Record), ("result", AsyncResult)):
        for name in re.findall(rf"`(?:await )?{owner}\.(\w+)", table):
            assert name in dir(cls)


@pytest.mark.parametrize("celerys", [CeleryResult, CeleryGroup])
def test_each_method_of_celerys_results_has_its_row_and_each_argument_of_get(celerys: type) -> None:
    table = section("What becomes of each call")
    methods = {name for name, value in inspect.getmembers(celerys, callable) if name[0] != "_"}
    assert methods - {"TimeoutError"} <= set(re.findall(r"(?<=\.)\w+(?=\()", table))
    arguments = set(inspect.signature(celerys.get).parameters) - {"self", "EXCEPTION_STATES", "PROPAGATE_STATES"}  # type: ignore[attr-defined]  # both have it
    assert arguments <= set(re.findall(r"\w+(?==)", table))


def browser(web: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://shop")
