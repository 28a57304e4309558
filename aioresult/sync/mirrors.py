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

    Each blocking class registers what it stands for. Results give their backend, and a backend makes results: so
    neither could import the other for this.
    """
    raise TypeError(f"{type(asynchronous).__name__} has no blocking form")


def blocking(method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """Return ``method`` of an asynchronous class as one of the blocking class whose objects have it ``mirrored``."""

    @wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method, self.mirrored, *args, **kwargs)

    return call


def the_id(ours: str | None, celerys: str | None) -> str | None:
    """Return the id, which may be given under this package's name or as Celery's ``id``."""
    if ours is not None and celerys is not None:
        raise TypeError(f"the id is given twice: {ours!r:.100} and id={celerys!r:.100}")
    return celerys if ours is None else ours


def backend_for(backend: Any, app: App | None = None) -> Backend | None:
    """Return the backend to use, as in Celery: the one given, or else the application's; ``None`` for neither.

    Args:
        backend: of this package, blocking or not; or Celery's own of an application, which means that one's results.
        app: a Celery application; there is one backend for all results of each.

    Raises:
        BackendNotConfigured: the application has no result backend.
        SettingsError: the application's result backend cannot be used here, or ``backend`` is none.
    """
    if backend is None:
        return None if app is None else _backend_of(app)
    given = getattr(backend, "mirrored", backend)
    return given if isinstance(given, Backend) else _backend_of(_owner(backend))


def _backend_of(app: App) -> Backend:
    from aioresult.integrations.celery.backends import shared_backend

    return shared_backend(app)


def _owner(backend: Any) -> App:
    """Return the application of which ``backend`` is Celery's result backend."""
    app: App | None = getattr(backend, "app", None)
    own: Any = getattr(app, "backend", None)
    if app is None or type(own) is not type(backend) or own.as_uri() != backend.as_uri():
        raise SettingsError(
            f"backend= takes a Backend of aioresult, or the result backend of a Celery application, not "
            f"{type(backend).__name__}; app= takes the application itself"
        )
    return app
