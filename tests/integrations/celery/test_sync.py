"""Code written for ``celery.result`` gets from ``aioresult.sync`` what Celery's own classes give it."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import celery.exceptions
import celery.result
import pytest
from celery import Celery
from celery.backends.redis import RedisBackend
from celery.exceptions import MaxRetriesExceededError, SoftTimeLimitExceeded, WorkerLostError
from celery.local import Proxy
from celery.utils.graph import GraphFormatter

import aioresult
from aioresult import BackendNotConfigured, SettingsError, sync
from aioresult.codec import exceptions
from aioresult.integrations.celery.backends import shared_backend
from aioresult.sync import errors
from aioresult.sync.storing import StoringBackend
from tests.integrations.celery.workers import application
from tests.servers import RedisServer

WAIT = 30.0


@pytest.fixture
def app(celery_redis: RedisServer) -> Iterator[Celery]:
    with application(broker="memory://", backend=celery_redis.url) as app:
        yield app
        sync.AsyncResult("any", app=app).backend.close()


@pytest.fixture
def backend(app: Celery) -> StoringBackend:
    return sync.AsyncResult("any", app=app).backend


def stored(app: Celery, value: object = 42) -> str:
    """Return the id of a task that Celery has stored."""
    task_id = str(uuid.uuid4())
    app.backend.store_result(task_id, value, "SUCCESS")
    return task_id


# --- how results are made ---------------------------------------------------------------------------------------------

Make = Callable[[ModuleType, str, Celery], Any]
"""Makes a result, or restores a group, by the classes of one of both modules."""


MAKE: dict[str, Make] = {
    "app": lambda module, task_id, app: module.AsyncResult(task_id, app=app),
    "keywords": lambda module, task_id, app: module.AsyncResult(id=task_id, app=app, task_name="proj.add"),
    "positions": lambda module, task_id, app: module.AsyncResult(task_id, None, "proj.add", app, None),
    "parent": lambda module, task_id, app: module.AsyncResult(
        task_id, app=app, parent=module.AsyncResult("p", app=app)
    ),
    "current_app": lambda module, task_id, app: module.AsyncResult(task_id, app=Proxy(lambda: app)),
    "backend": lambda module, task_id, app: module.AsyncResult(task_id, backend=app.backend),
    "group": lambda module, task_id, app: module.GroupResult("g", [module.AsyncResult(task_id, app=app)], app=app)[0],
    "set": lambda module, task_id, app: module.ResultSet([module.AsyncResult(task_id, app=app)], app)[0],
}
RESTORE: dict[str, Make] = {
    "app": lambda module, group_id, app: module.GroupResult.restore(group_id, app=app),
    "keywords": lambda module, group_id, app: module.GroupResult.restore(id=group_id, app=app),
    "positions": lambda module, group_id, app: module.GroupResult.restore(group_id, None, app),
    "backend": lambda module, group_id, app: module.GroupResult.restore(group_id, backend=app.backend),
}


@pytest.mark.parametrize("how", MAKE)
def test_celerys_constructors_give_the_results_of_the_application(app: Celery, how: str) -> None:
    task_id = stored(app)
    theirs, ours = (MAKE[how](module, task_id, app) for module in (celery.result, sync))
    assert ours.id == theirs.id == task_id
    assert ours.status == theirs.status == "SUCCESS"
    assert ours.get(timeout=WAIT, follow_parents=False) == theirs.get(timeout=WAIT, follow_parents=False) == 42
    assert str(ours.parent) == str(theirs.parent)


@pytest.mark.parametrize("how", RESTORE)
def test_a_group_that_either_side_has_saved_is_restored_by_the_other(app: Celery, how: str) -> None:
    task_id = stored(app)
    for saver, restorer in [(celery.result, sync), (sync, celery.result)]:
        group_id = str(uuid.uuid4())
        saver.GroupResult(id=group_id, results=[saver.AsyncResult(task_id, app=app)], app=app).save()
        group = RESTORE[how](restorer, group_id, app)
        assert (group.id, group.get(timeout=WAIT)) == (group_id, [42])
        group.delete(backend=app.backend)
        assert RESTORE[how](saver, group_id, app) is None


def test_all_results_of_an_application_share_one_backend(app: Celery) -> None:
    backends = {
        sync.AsyncResult("one", app=app).backend,
        sync.AsyncResult("two", backend=app.backend).backend,
        sync.AsyncResult("three", app=Proxy(lambda: app)).backend,
        sync.ResultSet([], app=app).backend,
        sync.Backend(shared_backend(app)),
    }
    assert len(backends) == 1


def test_the_relatives_of_a_result_are_of_the_same_application(app: Celery) -> None:
    task_id = str(uuid.uuid4())
    children = [[["child", None], None], [["group", None], [[["member", None], None]]]]
    sync.AsyncResult("any", app=app).backend.store_result(task_id, 1, "SUCCESS", children=children)
    result = sync.AsyncResult(task_id, app=app, parent=sync.GroupResult("g", [sync.AsyncResult("p", app=app)]))
    relatives = [*(result.children or []), result.parent, copy.copy(result)]
    assert [relative.app for relative in relatives if relative is not None] == [app] * 4


def test_what_is_given_wins_over_what_is_configured(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = stored(app)
    monkeypatch.setattr("aioresult.default._default", None)
    configured, given = sync.configure("memory://configured"), sync.Backend("memory://given")
    assert sync.AsyncResult(task_id, app=app).get(timeout=WAIT) == 42
    assert sync.AsyncResult(task_id).backend == configured
    assert sync.AsyncResult(task_id, given, app=app).backend == given
    assert sync.GroupResult(None, [], app=app, backend=given).backend == given


def test_an_application_whose_results_cannot_be_read_is_refused() -> None:
    nowhere = Celery("shop", set_as_current=False)
    with pytest.raises(BackendNotConfigured, match="'shop' has no result_backend"):
        sync.AsyncResult("t", app=nowhere)
    with pytest.raises(SettingsError, match="rpc://"):
        sync.GroupResult.restore("g", app=Celery("shop", backend="rpc://", set_as_current=False))


def test_a_backend_that_is_nobodys_is_refused(app: Celery, celery_redis: RedisServer) -> None:
    elsewhere = RedisBackend(app=app, url=celery_redis.url.removesuffix("/0") + "/5")
    for backend in (elsewhere, celery_redis.url, object()):
        with pytest.raises(SettingsError, match="app= takes the application itself"):
            sync.AsyncResult("t", backend)  # type: ignore[arg-type]  # what is tested


# --- the tree of results ----------------------------------------------------------------------------------------------


@pytest.fixture
def root(backend: sync.Backend) -> str:
    """The id of a task that led to another one and to a group of two."""
    root, child, first, second, group = (str(uuid.uuid4()) for _ in range(5))
    for task_id in (child, first, second):
        backend.store_result(task_id, task_id, "SUCCESS", children=[])
    members = [[[task_id, None], None] for task_id in (first, second)]
    backend.store_result(root, "root", "SUCCESS", children=[[[child, None], None], [[group, None], members]])
    return root


def test_the_graph_is_celerys(app: Celery, root: str) -> None:
    drawings = []
    for module in (celery.result, sync):
        result = module.AsyncResult(root, app=app)
        drawings += [io.StringIO(), io.StringIO()]
        result.graph.to_dot(drawings[-2])
        result.build_graph(formatter=GraphFormatter(root=root)).to_dot(drawings[-1])
    theirs, their_own, ours, our_own = (drawing.getvalue() for drawing in drawings)
    assert theirs.count("->") == 4
    assert (ours, our_own) == (theirs, their_own)


def test_a_tuple_becomes_the_result_that_celery_makes_of_it(app: Celery) -> None:
    for module in (celery.result, sync):
        member = module.AsyncResult("m", app=app, parent=module.AsyncResult("p", app=app))
        for result in (member, module.GroupResult("g", [member], member, app=app)):
            again = [made.result_from_tuple(result.as_tuple(), app) for made in (celery.result, sync)]
            assert [made.as_tuple() for made in again] == [result.as_tuple()] * 2
            assert [type(made).__name__ for made in again] == [type(result).__name__] * 2
            assert [made.app for made in again] == [app] * 2
        assert module.result_from_tuple(member, app) is member


# --- what Celery's handlers catch -------------------------------------------------------------------------------------

NEVER = "never"


def revoked(app: Celery) -> str:
    task_id = str(uuid.uuid4())
    app.backend.mark_as_revoked(task_id, "terminated")
    return task_id


CALLS: dict[str, tuple[type[Exception], type[Exception], Callable[[ModuleType, Celery], object]]] = {
    "get": (
        celery.exceptions.TimeoutError,
        aioresult.ResultTimeout,
        lambda module, app: module.AsyncResult(NEVER, app=app).get(timeout=0.01),
    ),
    "join": (
        celery.exceptions.TimeoutError,
        aioresult.ResultTimeout,
        lambda module, app: module.GroupResult("g", [module.AsyncResult(NEVER, app=app)]).join(timeout=0.01),
    ),
    "iter_native": (
        celery.exceptions.TimeoutError,
        aioresult.ResultTimeout,
        lambda module, app: list(module.ResultSet([module.AsyncResult(NEVER, app=app)]).iter_native(timeout=0.01)),
    ),
    "collect": (
        celery.exceptions.IncompleteStream,
        aioresult.ResultTimeout,
        lambda module, app: list(module.AsyncResult(NEVER, app=app).iterdeps()),
    ),
    "get of a revoked task": (
        celery.exceptions.TaskRevokedError,
        aioresult.TaskRevokedError,
        lambda module, app: module.AsyncResult(revoked(app), app=app).get(timeout=WAIT),
    ),
    "join with a revoked task": (
        celery.exceptions.TaskRevokedError,
        aioresult.TaskRevokedError,
        lambda module, app: module.ResultSet([module.AsyncResult(revoked(app), app=app)]).join(timeout=WAIT),
    ),
    "maybe_throw of a revoked task": (
        celery.exceptions.TaskRevokedError,
        aioresult.TaskRevokedError,
        lambda module, app: module.AsyncResult(revoked(app), app=app).maybe_throw(),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_raised_is_caught_as_celerys_and_as_ours(app: Celery, name: str) -> None:
    theirs, ours, call = CALLS[name]
    with pytest.raises(theirs):
        call(celery.result, app)
    with pytest.raises(ours) as caught:
        call(sync, app)
    assert isinstance(caught.value, theirs)
    assert type(caught.value).__name__ == ours.__name__
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.args) == (type(caught.value), caught.value.args)


def test_nothing_is_made_celerys_where_celery_is_not_loaded(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "sys", SimpleNamespace(modules={}))
    for _, ours, call in CALLS.values():
        with pytest.raises(ours) as caught:
            call(sync, app)
        assert type(caught.value) is ours


def test_an_error_keeps_its_cause() -> None:
    error = aioresult.TaskRevokedError("terminated")
    error.__cause__ = aioresult.RemoteTraceback("in the worker")
    assert errors.as_celerys(error).__cause__ is error.__cause__


def test_celerys_own_failures_are_caught_once_they_are_registered(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exceptions, "_registered", {})
    for cls in (SoftTimeLimitExceeded, WorkerLostError, MaxRetriesExceededError):
        aioresult.register_exception(cls)
        task_id = str(uuid.uuid4())
        app.backend.mark_as_failure(task_id, cls("why"))
        with pytest.raises(cls, match="why"):
            sync.AsyncResult(task_id, app=app).get(timeout=WAIT)


# --- what a set says of its members -----------------------------------------------------------------------------------

QUESTIONS = ["ready", "successful", "failed", "waiting", "completed_count", "__len__", "__bool__"]
STATES = ["PENDING", "STARTED", "SUCCESS", "FAILURE", "REVOKED"]


def test_a_set_answers_as_celerys_whatever_its_members_and_their_states(app: Celery, backend: sync.Backend) -> None:
    ids = {(state, number): str(uuid.uuid4()) for state in STATES for number in range(3)}
    for (state, number), task_id in ids.items():
        value = ValueError(state) if state in aioresult.EXCEPTION_STATES else number
        if state != "PENDING":
            app.backend.store_result(task_id, value, state)
    theirs = {key: app.AsyncResult(task_id) for key, task_id in ids.items()}
    ours = {key: backend.AsyncResult(task_id) for key, task_id in ids.items()}

    def group(module: Any, known: dict[tuple[str, int], Any], states: tuple[str, ...], **extra: Any) -> Any:
        first, second, third = (known[state, number] for number, state in enumerate(states))
        inner = module.GroupResult("inner", [second, third], **extra)
        return module.GroupResult("outer", [first, inner, module.GroupResult("empty", [], **extra)], **extra)

    for states in itertools.product(STATES, repeat=3):
        expected = group(celery.result, theirs, states, app=app)
        found = group(sync, ours, states, backend=backend)
        answers = {name: getattr(found, name)() for name in QUESTIONS}
        assert answers == {name: getattr(expected, name)() for name in QUESTIONS}, states
