"""The blocking API has the names, parameters and defaults of the asynchronous one, and those of Celery's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import celery.result
import pytest
from celery import Celery

import aioresult
from aioresult import sync

CLASSES = ["AsyncResult", "Backend", "GroupResult", "ResultSet"]
FUNCTIONS = ["as_completed", "configure", "gather", "get_backend", "wait"]
RENAMED = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}
PROPERTIES = {"status", "children"}  # Celery's attributes, where asynchronous code calls and awaits a method

CELERYS_ARGUMENTS = {
    "interval", "no_ack", "callback", "on_message", "on_interval", "disable_sync_subtasks", "app", "id",
}  # fmt: skip
CONSTRUCTORS = {
    "AsyncResult": {"id", "task_name", "app"},
    "Backend": set[str](),
    "GroupResult": {"id", "app"},
    "ResultSet": {"app"},
}
"""What they take beside the asynchronous one's arguments."""
OUR_NAMES = {"task_id": "id", "group_id": "id"}
"""Celery's names of what comes first; they are keywords, too."""
CELERYS_NAMES = {
    "AsyncResult": {
        "TimeoutError", "app", "args", "as_list", "build_graph", "collect", "date_done", "exists", "get_leaf", "graph",
        "info", "iterdeps", "kwargs", "maybe_reraise", "maybe_throw", "name", "queue", "result", "retries",
        "revoke_by_stamped_headers", "state", "supports_native_join", "then", "traceback", "worker",
    },
    "ResultSet": {
        "TimeoutError", "app", "iter_native", "join_native", "maybe_reraise", "maybe_throw",
        "supports_native_join", "then",
    },
}  # fmt: skip
CELERYS_NAMES["GroupResult"] = CELERYS_NAMES["ResultSet"] | {"as_list"}
CELERYS_POSITIONS = {"revoke": {"connection", "wait", "timeout"}}
"""Methods whose positions are Celery's; the asynchronous one's arguments are keywords."""
MIRRORS = {"mirrored", "mirroring"}

CELERYS_OWN = {"AbortableAsyncResult", "result_from_tuple"}

LEFT_OUT = {
    "on_ready": "a promise, which nothing would fulfil while nobody waits; then() says what to do instead",
    "throw": "fails that promise with an exception; maybe_throw() raises the task's",
}
MODULE_LEFT_OUT = {
    "EagerResult": "what a task's own apply() returns, which stays Celery's",
    "ResultBase": "no more than the attribute parent",
}


def public(cls: type) -> set[str]:
    names = {name for name in dir(cls) if not name.startswith("_")}
    return names | {name for name in ("__enter__", "__exit__", "__aenter__", "__aexit__") if hasattr(cls, name)}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(function).parameters)
    found.pop("self", None)
    return found


def shape(parameter: inspect.Parameter) -> tuple[str, object, object]:
    return parameter.name, parameter.kind, parameter.default


def mirrored_names() -> list[tuple[str, str]]:
    return sorted((name, member) for name in CLASSES for member in public(getattr(aioresult, name)))


def assert_accepts_every_call(ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
    """Fail unless any call of ``theirs`` may be made of ``ours`` and means the same; what it needs may be optional."""
    own, expected = parameters(ours), parameters(theirs)
    assert expected.keys() - own.keys() == set()
    for position, (name, parameter) in enumerate(expected.items()):
        if parameter.default is not inspect.Parameter.empty or name not in OUR_NAMES:
            assert own[name].default == parameter.default, name
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert list(own)[position] == name, f"{name} is not at the same position"
            assert own[name].kind is parameter.kind
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            assert own[name].kind in (parameter.kind, inspect.Parameter.POSITIONAL_OR_KEYWORD), name
        else:
            assert own[name].kind is parameter.kind, name


@pytest.mark.parametrize(("class_name", "member"), mirrored_names())
def test_every_asynchronous_name_has_a_blocking_one_with_the_same_parameters(class_name: str, member: str) -> None:
    theirs = getattr(getattr(aioresult, class_name), member)
    ours = getattr(getattr(sync, class_name), RENAMED.get(member, member))
    if not inspect.isfunction(theirs) and not inspect.ismethod(theirs):
        return  # an attribute or a property on both sides
    if class_name == "AsyncResult" and member in PROPERTIES:
        assert isinstance(ours, property)
        assert parameters(theirs) == {}
        return
    added = parameters(ours).keys() - parameters(theirs).keys()
    if member in CELERYS_POSITIONS:
        assert added == CELERYS_POSITIONS[member]
        assert {p.default for p in parameters(theirs).values()} <= {None, False}
        return
    assert_accepts_every_call(ours, theirs)
    assert added <= CELERYS_ARGUMENTS
    assert all(parameters(ours)[name].default is not inspect.Parameter.empty for name in added)


@pytest.mark.parametrize("class_name", CLASSES)
def test_the_constructors_are_the_same_and_take_celerys_arguments(class_name: str) -> None:
    theirs, ours = getattr(aioresult, class_name), getattr(sync, class_name)
    assert_accepts_every_call(ours, theirs)
    assert parameters(ours).keys() - parameters(theirs).keys() == CONSTRUCTORS[class_name]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (sync.AsyncResult, celery.result.AsyncResult),
        (sync.ResultSet, celery.result.ResultSet),
        (sync.GroupResult, celery.result.GroupResult),
        (sync.GroupResult.restore, celery.result.GroupResult.restore),
    ],
)
def test_results_are_made_with_celerys_positions_and_keywords(
    ours: Callable[..., Any], theirs: Callable[..., Any]
) -> None:
    expected = [name for name, parameter in parameters(theirs).items() if parameter.kind is not parameter.VAR_KEYWORD]
    if "ready_barrier" in expected:
        expected.remove("ready_barrier")  # Celery's own business: a promise that its copies of a set share
    signature = inspect.signature(ours)
    positions = signature.bind(*expected).arguments
    assert {OUR_NAMES.get(name, name): value for name, value in positions.items()} == {name: name for name in expected}
    keywords = {name: name for name in [*expected, "app"]}  # groups and sets hand it on as one of **kwargs
    assert signature.bind_partial(**keywords).arguments == keywords


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_functions_are_the_same(name: str) -> None:
    theirs, ours = getattr(aioresult, name), getattr(sync, name)
    assert [shape(p) for p in parameters(ours).values()] == [shape(p) for p in parameters(theirs).values()]


def test_these_are_all_the_names() -> None:
    assert set(sync.__all__) == {*CLASSES, *FUNCTIONS, *CELERYS_OWN}


@pytest.mark.parametrize("class_name", CLASSES)
def test_nothing_else_is_added_but_what_celery_has(class_name: str) -> None:
    theirs = {RENAMED.get(name, name) for name in public(getattr(aioresult, class_name))}
    attributes = {"AsyncResult": {"parent"}, "Backend": {"settings"}}  # which asynchronous instances have, not classes
    added = public(getattr(sync, class_name)) - theirs - MIRRORS - attributes.get(class_name, set())
    assert added == CELERYS_NAMES.get(class_name, set())


def test_celerys_own_names_are_all_there_but_those_that_make_no_sense_here() -> None:
    app = Celery(set_as_current=False, backend="cache+memory://")
    single = celery.result.AsyncResult("t", app=app), sync.AsyncResult("t", sync.Backend("memory://"))
    group = celery.result.GroupResult("g", [], app=app), sync.GroupResult("g")
    bare = celery.result.ResultSet([], app=app), sync.ResultSet([])
    missing: set[str] = set()
    for theirs, ours in (single, group, bare):
        missing |= {name for name in dir(theirs) if not name.startswith("_")} - set(dir(ours)) - {"parent"}
        assert hasattr(ours, "parent") or type(ours) is sync.ResultSet  # whose parent is always None in Celery, too
    assert missing == LEFT_OUT.keys()


def test_celerys_module_has_no_other_names() -> None:
    assert set(celery.result.__all__) - set(sync.__all__) == MODULE_LEFT_OUT.keys()


@pytest.mark.parametrize(
    ("class_name", "member"),
    [
        ("AsyncResult", "get"),
        ("AsyncResult", "collect"),
        ("AsyncResult", "iterdeps"),
        ("AsyncResult", "build_graph"),
        ("AsyncResult", "maybe_throw"),
        ("AsyncResult", "revoke"),
        ("AsyncResult", "revoke_by_stamped_headers"),
        ("ResultSet", "get"),
        ("ResultSet", "join"),
        ("ResultSet", "join_native"),
        ("ResultSet", "iter_native"),
        ("ResultSet", "maybe_throw"),
        ("ResultSet", "revoke"),
        ("GroupResult", "save"),
        ("GroupResult", "delete"),
    ],
)
def test_celerys_calls_may_be_made_with_celerys_positions_and_defaults(class_name: str, member: str) -> None:
    theirs = parameters(getattr(getattr(celery.result, class_name), member))
    theirs.pop("EXCEPTION_STATES", None)  # constants bound as defaults, not meant to be passed
    theirs.pop("PROPAGATE_STATES", None)
    ours = parameters(getattr(getattr(sync, class_name), member))
    positional = [(p.name, p.default) for p in theirs.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in ours.values()][: len(positional)] == positional


def test_a_drifting_signature_is_noticed() -> None:
    def theirs(timeout: float | None = None, propagate: bool = True, *, forget: bool = False) -> None: ...
    def same(timeout: float | None = None, propagate: bool = True, extra: int = 1, *, forget: bool = False) -> None: ...
    def other_default(timeout: float | None = 1, propagate: bool = True, *, forget: bool = False) -> None: ...
    def other_order(propagate: bool = True, timeout: float | None = None, *, forget: bool = False) -> None: ...
    def missing(timeout: float | None = None, propagate: bool = True) -> None: ...

    assert_accepts_every_call(same, theirs)
    for drifted in (other_default, other_order, missing):
        with pytest.raises(AssertionError):
            assert_accepts_every_call(drifted, theirs)
