"""The backend in which the results of an application's tasks are awaited by default."""

from __future__ import annotations

from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from aioresult.backend import Backend
from aioresult.errors import AioResultError, BackendNotConfigured, UnknownStore
from aioresult.integrations.celery.configuration import backend_from_app
from aioresult.integrations.celery.internals import unproxied
from aioresult.integrations.celery.protocols import App
from aioresult.settings import make_settings
from aioresult.stores.disabled import DisabledStore


class UnreadableBackend(Backend):
    """Replaces the backend of an application whose results cannot be read. Reading a result raises the reason."""

    def __init__(self, why: Exception) -> None:
        super().__init__(DisabledStore("disabled://", make_settings({}), str(why)))


_shared: Final[WeakKeyDictionary[App, Backend]] = WeakKeyDictionary()
_unreadable: Final[WeakKeyDictionary[App, Backend]] = WeakKeyDictionary()
_lock: Final = Lock()


def shared_backend(app: App) -> Backend:
    """Return the backend that ``backend_from_app`` makes: the same one for each call, so that connections are shared.

    As in Celery, the configuration is that of the application at the first use.

    Raises:
        BackendNotConfigured, SettingsError, MissingDriver: as ``backend_from_app``.
    """
    app = unproxied(app)
    with _lock:
        return _shared.get(app) or _shared.setdefault(app, backend_from_app(app))


def backend_of(app: App, *, ignored: bool | None) -> Backend:
    """Return the backend for all results of ``app``, even if its results cannot be read.

    As in Celery, tasks are published even if there is no result backend, and then ``get()`` raises. A mistake in the
    settings raises before anything is published, unless the result is ignored.

    Args:
        app: the application.
        ignored: whether the result will not be stored.

    Raises:
        SettingsError, MissingDriver: the result is not ignored, and only this mistake prevents reading it.
    """
    try:
        return shared_backend(app)
    except AioResultError as exc:
        if not ignored and not isinstance(exc, (BackendNotConfigured, UnknownStore)):
            raise
        return _unreadable.get(app) or _unreadable.setdefault(app, UnreadableBackend(exc))
