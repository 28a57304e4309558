"""The protocols of results and their backends, and the backend that is used where none is given."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

from aioresult.errors import AioResultError, BackendNotConfigured, SettingsError
from aioresult.record import Record, ResultTree
from aioresult.runtime import Runtime
from aioresult.settings import Settings

B = TypeVar("B", bound="ResultBackend | None")
_BACKEND: Final = "aioresult.backend:Backend"
"""The class that is used for the URL in the environment. It is named and not imported, because it imports the results,
which import this module."""


class ResultBackend(Protocol):
    """Waits for results, and makes further ones. ``aioresult.Backend`` implements and documents these methods."""

    @property
    def settings(self) -> Settings: ...
    @property
    def _runtime(self) -> Runtime: ...
    def _result_from_tree(self, tree: ResultTree) -> Any: ...
    async def _put_record(self, record: Record) -> bool: ...
    async def fetch(self, task_id: str) -> Record: ...
    async def forget(self, task_id: str) -> bool: ...


class Result(Protocol):
    """The result of a task or of a group: the type of parents, children and members of groups.

    ``aioresult.AsyncResult`` and ``GroupResult`` document what these methods do.
    """

    id: str
    parent: Result | None

    @property
    def backend(self) -> ResultBackend: ...
    async def get(self, timeout: float | None = None, propagate: bool = True) -> Any: ...
    async def ready(self) -> bool: ...
    async def successful(self) -> bool: ...
    async def failed(self) -> bool: ...
    async def forget(self) -> Any: ...
    def leaves(self) -> list[Any]: ...
    def as_tuple(self) -> ResultTree: ...


def check_backend(given: B) -> B:
    """Return a backend, or ``None``, as it is.

    Raises:
        SettingsError: something else was given, such as a URL or a Celery application.
    """
    kind = type(given)
    if given is None or hasattr(kind, "_runtime"):
        return given
    raise SettingsError(
        f"backend= takes a Backend of aioresult, not {kind.__module__}.{kind.__qualname__}: write Backend(url), or "
        f"backend_from_app(app) of aioresult.integrations.celery for a Celery application"
    )


def check_result(given: object) -> None:
    """Refuse what is no result, such as a list of results or an id."""
    if not hasattr(given, "leaves"):
        raise TypeError(
            f"{type(given).__name__} is no result: a list of results is passed as gather(*results), and "
            f"AsyncResult(task_id) makes the result of an id"
        )


def ancestors_of(result: Result) -> list[Any]:
    """Return the single results that led to ``result``, the nearest first."""
    ancestors: list[Any] = []
    while (parent := result.parent) is not None:
        ancestors.extend(parent.leaves())
        result = parent
    return ancestors


def common_runtime(results: Sequence[Result]) -> Runtime:
    """Return the runtime that the one backend of ``results`` has in this loop; refuse results of several backends."""
    backend = results[0].backend
    if any(result.backend is not backend for result in results):
        raise AioResultError(
            "results of different backends cannot be awaited in one call; make one call for each backend and "
            "combine them with asyncio.gather"
        )
    return backend._runtime


_default: ResultBackend | None = None


def set_default(backend: ResultBackend) -> None:
    """Make ``backend`` the one that is used where none is given."""
    global _default  # noqa: PLW0603  (the process-wide default is this module's purpose)
    _default = backend


def get_default() -> ResultBackend:
    """Return the default backend; if none was set, that of the environment variable ``AIORESULT_URL``.

    Raises:
        BackendNotConfigured: there is neither.
    """
    if _default is not None:
        return _default
    url = os.environ.get("AIORESULT_URL")
    if not url:
        raise BackendNotConfigured(
            "no result backend is configured: call aioresult.configure('redis://...'), pass backend=..., "
            "or set AIORESULT_URL in the environment"
        )
    made: ResultBackend = pkgutil.resolve_name(_BACKEND)(url)
    set_default(made)
    return made
