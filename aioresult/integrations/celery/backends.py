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
    """Stands for the backend of an application whose results cannot be read, and says why to whoever asks for one."""

    def __init__(self, why: Exception) -> None:
        super().__init__(DisabledStore("disabled://", make_settings({}), str(why)))


_shared: Final[WeakKeyDictionary[App, Backend]] = WeakKeyDictionary()
_unreadable: Final[WeakKeyDictionary[App, Backend]] = WeakKeyDictionary()
_lock: Final = Lock()


def shared_backend(app: App) -> Backend:
    """Return what ``backend_from_app`` makes of an application: the same one each time, and with it its connections.

    As Celery's own does, it keeps to the configuration that the application has when it is first used.

    Raises:
        BackendNotConfigured, SettingsError, MissingDriver: as ``backend_from_app``.
    """
    app = unproxied(app)
    with _lock:
        return _shared.get(app) or _shared.setdefault(app, backend_from_app(app))


def backend_of(app: App, *, ignored: bool | None) -> Backend:
    """Return the backend for all results of ``app``, also where there is none that could be read.

    Celery publishes whether or not there is a place for results, and leaves it to ``get()`` to say so; and so do we. A
    mistake in the settings is told before anything is published, but not to those who want no result.

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
