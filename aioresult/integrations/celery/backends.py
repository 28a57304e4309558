"""The backend in which the results of an application's tasks are awaited where the caller gives none."""

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
    """Takes the place of the backend of an application whose results cannot be read. Asking it for one raises why."""

    def __init__(self, why: Exception) -> None:
        super().__init__(DisabledStore("disabled://", make_settings({}), str(why)))


_shared: Final[WeakKeyDictionary[App, Backend]] = WeakKeyDictionary()
_unreadable: Final[WeakKeyDictionary[App, Backend]] = WeakKeyDictionary()
_lock: Final = Lock()


def shared_backend(app: App) -> Backend:
    """Return what ``backend_from_app`` makes of an application: the same one each time, and with it its connections.

    As in Celery, the configuration is that of the application at the first use.

    Raises:
        BackendNotConfigured, SettingsError, MissingDriver: as ``backend_from_app``.
    """
    app = unproxied(app)
    with _lock:
        return _shared.get(app) or _shared.setdefault(app, backend_from_app(app))


def backend_of(app: App, *, ignored: bool | None) -> Backend:
    """Return the backend for all results of ``app``, also where there is none that could be read.

    As in Celery, tasks are published also where there is no place for results, and then ``get()`` raises. A mistake in
    the settings raises before anything is published, unless the caller wants no result.

    Args:
        app: the application.
        ignored: whether the result in question is not to be stored.

    Raises:
        SettingsError, MissingDriver: the result is wanted, and stored where it could be read but for this mistake.
    """
    try:
        return shared_backend(app)
    except AioResultError as exc:
        if not ignored and not isinstance(exc, (BackendNotConfigured, UnknownStore)):
            raise
        return _unreadable.get(app) or _unreadable.setdefault(app, UnreadableBackend(exc))
