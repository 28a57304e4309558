"""What unmodified Celery workers store, aioresult reads exactly as Celery's own client does, in every format.

Each cell is a store, a serializer, extended results or not, and a compression. In each, a worker runs tasks that end in
all the ways there are; aioresult waits for them by push alone, and then says what Celery's client says, attribute by
attribute.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from celery import Celery, chain, chord, group
from celery.result import AsyncResult as CeleryResult

from aioresult import AsyncResult, Backend, GroupResult
from aioresult.groups import from_tree
from aioresult.integrations.celery import backend_from_app
from tests.integrations.celery.comparing import by_aioresult, by_celery, lineage
from tests.integrations.celery.conftest import Places, broker_settings
from tests.integrations.celery.workers import Worker, application
from tests.servers import RedisServer
from tests.stores.sqlalchemy.sql import lasting_engines

WAIT = 30.0
Apply = Callable[[Any], Any]
"""Publishes a signature by Celery's own client and returns Celery's result."""


class Cell(NamedTuple):
    """One combination of formats."""

    store: str
    serializer: str
    extended: bool
    compression: str | None

    def __str__(self) -> str:
        parts = [self.store, self.serializer, "extended" if self.extended else "plain", self.compression or "raw"]
        return "-".join(parts)


_COMPRESSIBLE = [
    ("json", False, None),
    ("json", True, "gzip"),
    ("pickle", True, None),
    ("msgpack", False, "bzip2"),
    ("yaml", True, "brotli"),
    ("yaml", False, "lzma"),
]
_SQL = [
    ("json", False, None),
    ("json", True, None),
    ("pickle", True, None),
    ("msgpack", False, None),
    ("yaml", True, None),
]
CELLS = [
    Cell(store, *formats)
    for store, all_formats in (
        ("redis", _COMPRESSIBLE),
        ("mongodb", _COMPRESSIBLE),
        ("sqlite", _SQL),
        ("postgresql", _SQL),
    )
    for formats in all_formats
]


class Fleet:
    """The workers of all cells, each started while the cell before it is being tested, since that takes a while."""

    def __init__(self, cells: list[Cell], settings: Callable[[Cell], dict[str, Any]]) -> None:
        self._waiting = list(cells)
        self._settings = settings
        self._started: dict[Cell, Worker] = {}

    def take(self, cell: Cell) -> Worker:
        """Return the worker of ``cell``, which may still be starting, and have the next one started."""
        worker = self._started.pop(cell, None) or self._start(cell)
        if self._waiting:
            following = self._waiting[0]
            self._started[following] = self._start(following)
        return worker

    def _start(self, cell: Cell) -> Worker:
        self._waiting.remove(cell)
        worker = Worker(**self._settings(cell))
        worker.start()
        return worker

    def close(self) -> None:
        for worker in self._started.values():
            worker.close()


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest, places: Places, celery_redis: RedisServer) -> Iterator[Fleet]:
    def settings(cell: Cell) -> dict[str, Any]:
        return {
            **broker_settings(celery_redis, f"{cell}-"),
            "backend": places.url(cell.store),
            "result_serializer": cell.serializer,
            "result_extended": cell.extended,
            "result_compression": cell.compression,
            "result_backend_transport_options": {"global_keyprefix": cell.serializer} if cell.extended else {},
        }

    selected: list[Any] = [
        item.callspec.params["cell"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and "cell" in item.callspec.params
    ]
    fleet = Fleet(selected, settings)
    yield fleet
    fleet.close()


@pytest.fixture
def worker(fleet: Fleet, cell: Cell) -> Iterator[Worker]:
    with fleet.take(cell) as worker:
        yield worker


@pytest.fixture
def app(worker: Worker) -> Iterator[Celery]:
    with lasting_engines(), application(**worker.settings) as app:
        yield app


# --- the ways in which tasks end --------------------------------------------------------------------------------------


def _single(name: str, *args: Any) -> Callable[[Celery], Any]:
    return lambda app: app.tasks[f"tests.{name}"].apply_async(args)


def _chain(app: Celery) -> Any:
    add = app.tasks["tests.add"]
    return chain(add.s(1, 2), add.s(3), add.s(4)).apply_async()


def _group(app: Celery) -> Any:
    add, fail = app.tasks["tests.add"], app.tasks["tests.fail_own"]
    return group(add.s(1, 2), fail.s(), add.s(3, 4)).apply_async()


def _chord(app: Celery) -> Any:
    add, total = app.tasks["tests.add"], app.tasks["tests.total"]
    return chord([add.s(1, 2), add.s(3, 4)])(total.s())


def _chord_fails(app: Celery) -> Any:
    add, fail, total = app.tasks["tests.add"], app.tasks["tests.fail_own"], app.tasks["tests.total"]
    return chord([add.s(1, 2), fail.s()])(total.s())


def _chain_fails(app: Celery) -> Any:
    add, fail = app.tasks["tests.add"], app.tasks["tests.fail"]
    return chain(add.s(1, 2), fail.si(), add.si(3, 4)).apply_async()


def _revoked(app: Celery) -> Any:
    task_id = str(uuid.uuid4())
    app.control.revoke(task_id, reply=True, timeout=WAIT, limit=1)
    return app.tasks["tests.add"].apply_async((1, 2), task_id=task_id)


FINAL: dict[str, tuple[Callable[[Celery], Any], str]] = {
    "a value of every type": (_single("rich"), "SUCCESS"),
    "None": (_single("nothing"), "SUCCESS"),
    "keyword arguments": (lambda app: app.tasks["tests.add"].apply_async((1,), {"y": 2}), "SUCCESS"),
    "a builtin exception": (_single("fail"), "FAILURE"),
    "an application's exception": (_single("fail_own"), "FAILURE"),
    "an exception with causes": (_single("fail_nested"), "FAILURE"),
    "an exception that pickle cannot copy": (_single("fail_unpicklable"), "FAILURE"),
    "a second attempt": (_single("retry_once"), "SUCCESS"),
    "a task with children": (_single("parent"), "SUCCESS"),
    "revoked": (_revoked, "REVOKED"),
    "a chain": (_chain, "SUCCESS"),
    "a chain that fails": (_chain_fails, "FAILURE"),
    "a chord": (_chord, "SUCCESS"),
    "a chord that fails": (_chord_fails, "FAILURE"),
}
PASSING: dict[str, tuple[Callable[[Celery], Any], str]] = {
    "a state of its own": (_single("custom"), "HALFWAY"),
    "waiting for another attempt": (_single("retry_later"), "RETRY"),
}


def _backend(app: Celery, cell: Cell) -> Backend:
    """Return a backend that nothing but a push wakes within this test's time."""
    never = {"fallback_interval": 3600.0, "poll_interval": 3600.0, "poll_min_interval": 3600.0}
    return backend_from_app(app, **never, **({"database_trigger": True} if cell.store == "postgresql" else {}))


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_reads_what_celery_reads(cell: Cell, app: Celery, subtests: pytest.Subtests) -> None:
    async with _backend(app, cell) as backend:
        assert (await backend.capabilities()).push
        published = {what: publish(app) for what, (publish, _) in {**FINAL, **PASSING}.items()}
        members = _group(app)
        for what, (_, state) in FINAL.items():
            with subtests.test(what):
                theirs = published[what]
                ours = from_tree(theirs.as_tuple(), backend)
                assert isinstance(ours, AsyncResult)
                assert (await ours.wait(timeout=WAIT)).status == state
                await _agree(ours, theirs)
        for what, (_, state) in PASSING.items():
            with subtests.test(what):
                ours = AsyncResult[Any](published[what].id, backend)
                await _reach(ours, state)
                await _agree(ours, published[what])
        with subtests.test("a group"):
            together = from_tree(members.as_tuple(), backend)
            assert isinstance(together, GroupResult)
            await together.join(timeout=WAIT, propagate=False)
            for ours, theirs in zip(together.leaves(), members, strict=True):
                await _agree(ours, theirs)


async def _reach(result: AsyncResult[Any], state: str) -> None:
    async for record in result.updates(timeout=WAIT):
        if record.status == state:
            return


async def _agree(ours: AsyncResult[Any], theirs: Any) -> None:
    """Compare the two, and their ancestors."""
    expected = await asyncio.to_thread(by_celery, theirs)
    assert await by_aioresult(ours) == expected
    assert lineage(ours) == lineage(theirs)
    for ancestor in ours.parent.leaves() if ours.parent is not None else ():
        assert await by_aioresult(ancestor) == await asyncio.to_thread(
            by_celery, CeleryResult(ancestor.id, app=theirs.app)
        )
