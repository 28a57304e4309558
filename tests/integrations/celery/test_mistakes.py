"""Calls of the Celery integration that newcomers get wrong: each is told what to write instead."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from celery import Celery

from aioresult import AsyncResult, Backend, SettingsError
from aioresult.integrations import celery as integration

app = Celery("mistakes", broker="memory://", backend="aioresult+memory://", set_as_current=False)
apply_async: Any = integration.apply_async
send_task: Any = integration.send_task


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def join(*parts: str) -> str:
    return " ".join(parts)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("tasks.join", r"send_task\(app, 'tasks.join', args\)"),
        (AsyncResult("a"), r"not AsyncResult: write apply_async\(task, args\)"),
        (app.AsyncResult("a"), r"not AsyncResult: write apply_async\(task, args\)"),
    ],
)
async def test_what_is_no_task_is_refused_before_anything_is_sent(task: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        await apply_async(task)


async def test_text_as_arguments_would_become_one_for_each_character() -> None:
    with pytest.raises(TypeError, match=r"not str: write \('why',\)"):
        await apply_async(join, "why")
    with pytest.raises(TypeError, match=r"not str: write \('why',\)"):
        await send_task(app, join.name, "why")


async def test_what_is_no_backend_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"not celery\..*backend_from_app\(app\)"):
        await apply_async(join, ("a",), backend=app)
    with pytest.raises(SettingsError, match=r"not builtins\.str: write Backend\(url\)"):
        await send_task(app, join.name, ("a",), backend="memory://")


def test_an_application_in_place_of_a_url_is_told_how_it_is_read() -> None:
    for given in (app, Celery("other", backend="db+sqlite://", set_as_current=False).backend):
        with pytest.raises(SettingsError, match=rf"not {type(given).__name__}; .*backend_from_app\(app\)"):
            Backend(given)


def test_the_plugin_without_a_store_is_told_how_it_is_named() -> None:
    for url in ("aioresult", "aioresult://"):
        with pytest.raises(SettingsError, match=r"needs a URL: result_backend='aioresult\+redis://"):
            _ = Celery("x", backend=url, set_as_current=False).backend


_WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ("celery", "kombu") else super().find_spec(name, path, target)

sys.meta_path = [Hidden if finder is PathFinder else finder for finder in sys.meta_path]
import aioresult
try:
    from aioresult.integrations.celery import backend_from_app
except aioresult.MissingDriver as exc:
    print(exc.name, exc)
"""


def test_the_integration_without_celery_names_the_extra() -> None:
    told = subprocess.run([sys.executable, "-c", _WITHOUT], check=True, capture_output=True, text=True).stdout
    assert told.startswith("celery ")
    assert "aioresult-backend[celery]" in told
