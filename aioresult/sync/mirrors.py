"""Mirrors: each blocking object has an asynchronous one, whose methods it calls."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import singledispatch, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from aioresult.backend import Backend
from aioresult.errors import SettingsError
from aioresult.sync.portal import run

if TYPE_CHECKING:
    from aioresult.integrations.celery.protocols import App

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


@singledispatch
def mirror(asynchronous: Any, *_app: App | None) -> Any:
    """Return the blocking form of an asynchronous backend, or of a result or group with its Celery application.

    Each blocking class registers the asynchronous class that it mirrors. A direct import is not possible, because
    results return backends, and backends make results.
    """
    raise TypeError(f"{type(asynchronous).__name__} has no blocking form")


def blocking(method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """Return the blocking form of ``method``, for a class whose ``mirrored`` object has the method."""

    @wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method, self.mirrored, *args, **kwargs)

    return call


def the_id(ours: str | None, celerys: str | None) -> str | None:
    """Return the id, which may be given by this package's name or as Celery's ``id``."""
    if ours is not None and celerys is not None:
        raise TypeError(f"the id is given twice: {ours!r:.100} and id={celerys!r:.100}")
    return celerys if ours is None else ours


def backend_for(backend: Any, app: App | None = None) -> Backend | None:
    """Return the backend to use, as in Celery: the given one, or else the application's; ``None`` for neither.

    Args:
        backend: a backend of this package, blocking or not; or Celery's backend of an application, for its results.
        app: a Celery application; all its results share one backend.

    Raises:
        BackendNotConfigured: the application has no result backend.
        SettingsError: the application's result backend cannot be used here, or ``backend`` is not a backend.
    """
    if backend is None:
        return None if app is None else _backend_of(app)
    given = getattr(backend, "mirrored", backend)
    return given if isinstance(given, Backend) else _backend_of(_owner(backend))


def _backend_of(app: App) -> Backend:
    from aioresult.integrations.celery.backends import shared_backend

    return shared_backend(app)


def _owner(backend: Any) -> App:
    """Return the application to which Celery's result backend ``backend`` belongs."""
    app: App | None = getattr(backend, "app", None)
    own: Any = getattr(app, "backend", None)
    if app is None or type(own) is not type(backend) or own.as_uri() != backend.as_uri():
        raise SettingsError(
            f"backend= takes a Backend of aioresult, or the result backend of a Celery application, not "
            f"{type(backend).__name__}; app= takes the application itself"
        )
    return app
