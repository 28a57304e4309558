"""The result backend plugin within one process, without workers: where it lives, and what it leaves alone."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

from aioresult.integrations.celery import callbacks
from aioresult.stores.memory import MemoryStore
from aioresult.sync import records
from aioresult.sync.portal import run_anywhere
from tests.blocking import PATIENCE, eventually
from tests.integrations.celery.conftest import STORES, Places
from tests.integrations.celery.workers import application
from tests.sync.test_portal import run_script


def registered(app: Celery) -> int:
    """Return how many results are waited for on behalf of callbacks."""
    return len(app.backend._callbacks._registered)


def test_a_closed_backend_is_not_opened_again_by_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "_PAUSE", 0.05)
    with application(broker="memory://", backend="aioresult+memory://") as app:
        result = app.AsyncResult(str(uuid.uuid4()))
        result.then(print)
        eventually(lambda: registered(app) == 1)
        run_anywhere(app.backend._async.aclose)
        eventually(lambda: registered(app) == 0)
        assert repr(app.backend._async) == "<Backend (not in use)>"
        result.then(print)  # which is a use of it
        eventually(lambda: registered(app) == 1)
        app.backend.mark_as_done(result.id, 1)
        eventually(lambda: registered(app) == 0)


def test_a_slow_caller_gets_every_final_state_however_many_others_another_task_has_meanwhile() -> None:
    with application(broker="memory://", backend="aioresult+memory://") as app:
        store = app.backend.store_result
        store("short", None, "BEGUN")
        store("long", None, "BEGUN")
        told: list[Any] = []

        def on_message(meta: dict[str, Any]) -> None:
            told.append(meta["result"])
            if len(told) == 1:
                store("short", "at once", "SUCCESS")
                for number in range(records._UNREAD_STATES + 100):
                    store("long", number, "PROGRESS")
                store("long", "in the end", "SUCCESS")

        metas = dict(app.backend.get_many(["short", "long"], timeout=PATIENCE, on_message=on_message))
        assert {task_id: meta["result"] for task_id, meta in metas.items()} == {
            "short": "at once",
            "long": "in the end",
        }
        assert told[-1] == "in the end"
        assert records._UNREAD_STATES - 1 in told, "the newest of the other states are kept"
        assert 0 not in told, "older ones give way"


def test_a_group_that_is_being_saved_is_saved_before_its_store_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    with application(broker="memory://", backend="aioresult+memory://") as app:
        backend = app.backend._async
        closing: list[asyncio.Task[None]] = []

        async def put_group(store: MemoryStore, group_id: str, tree: object) -> None:
            closing.append(asyncio.create_task(backend.aclose()))
            for _ in range(100):  # turns of the loop in which it could be closed
                await asyncio.sleep(0)
            happened.append(f"{group_id} is saved")

        async def aclose(store: MemoryStore) -> None:
            happened.append("the store is closed")

        async def closed() -> None:
            await asyncio.wait(closing)

        monkeypatch.setattr(MemoryStore, "put_group", put_group)
        monkeypatch.setattr(MemoryStore, "aclose", aclose)
        app.backend.save_group("one", app.GroupResult("one", []))
        run_anywhere(closed)
    assert happened == ["one is saved", "the store is closed"]


FORK = """
import os, signal, threading, warnings
from celery import Celery

app = Celery(broker="memory://", backend="aioresult+memory://")
backend = app.backend
backend.mark_as_done("slow", 1)
slow, reached = app.AsyncResult("slow"), threading.Event()
slow._set_cache = lambda meta: (reached.set(), threading.Event().wait())
threading.Thread(target=slow.get, daemon=True).start()
assert reached.wait(20)
child = os.fork()
if child:
    assert os.waitpid(child, 0) == (child, 0)
else:
    signal.alarm(20)
    warnings.simplefilter("ignore", ResourceWarning)
    backend.mark_as_done("quick", 2)
    print(app.AsyncResult("quick").get(timeout=10), flush=True)
    os._exit(0)
"""


def test_a_process_may_fork_while_a_thread_is_being_given_its_result() -> None:
    assert run_script(FORK) == "2\n"


@pytest.mark.parametrize("timezone", [None, "Asia/Tokyo"])
@pytest.mark.parametrize("store", STORES)
def test_dates_have_the_form_that_stock_celery_gives_them(store: str, timezone: str | None, places: Places) -> None:
    settings = {"broker": "memory://", **({} if timezone is None else {"timezone": timezone})}
    url = places.url(store)
    with application(**settings, backend=url) as stock, application(**settings, backend=f"aioresult+{url}") as app:
        for writer in (stock, app):
            task_id = str(uuid.uuid4())
            writer.backend.store_result(task_id, 1, "SUCCESS")
            theirs, ours = stock.AsyncResult(task_id).date_done, app.AsyncResult(task_id).date_done
            if store == "mongodb":
                ours = ours.replace(microsecond=ours.microsecond // 1000 * 1000)
            assert (ours, ours.utcoffset()) == (theirs, theirs.utcoffset())
            zone = UTC if store in ("mongodb", "postgresql") else stock.timezone
            now = datetime.now(zone)
            assert now - (ours if ours.tzinfo else ours.replace(tzinfo=now.tzinfo)) < timedelta(minutes=5)
