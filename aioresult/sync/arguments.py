"""What the arguments of Celery's constructors mean here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioresult.backend import Backend as AsynchronousBackend
from aioresult.errors import SettingsError
from aioresult.sync.backend import Backend

if TYPE_CHECKING:
    from aioresult.integrations.celery.edge import App


def the_id(ours: str | None, celerys: str | None) -> str | None:
    """Return the id, which may be given under this package's name or as Celery's ``id``."""
    if ours is not None and celerys is not None:
        raise TypeError(f"the id is given twice: {ours!r:.100} and id={celerys!r:.100}")
    return celerys if ours is None else ours


def backend_for(backend: object, app: App | None = None) -> AsynchronousBackend | None:
    """Return the backend that is meant, as in Celery: the one given, or else the application's; ``None`` for neither.

    Args:
        backend: of this package, blocking or not; or Celery's own of an application, which means that one's results.
        app: a Celery application; there is one backend for all results of each.

    Raises:
        BackendNotConfigured: the application has no result backend.
        SettingsError: the application's result backend cannot be used here, or ``backend`` is none.
    """
    match backend:
        case None:
            return None if app is None else _backend_of(app)
        case Backend():
            return backend.mirrored
        case AsynchronousBackend():
            return backend
        case _:
            return _backend_of(_owner(backend))


def _backend_of(app: App) -> AsynchronousBackend:
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
