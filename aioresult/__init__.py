"""Await the results of tasks by push: Celery's result formats, asyncio's verbs.

Each name is loaded when it is first used. Code that only catches errors, or asks for the version, need not wait until
asyncio and everything else is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioresult.backend import Backend, configure, get_backend
    from aioresult.codec.exceptions import register_exception
    from aioresult.collecting import as_completed
    from aioresult.emitting import emit, flush
    from aioresult.errors import (
        AioResultError,
        BackendNotConfigured,
        DecodeError,
        EncodeError,
        InvalidTaskId,
        MissingDriver,
        RemoteTaskError,
        RemoteTraceback,
        ResultNotStored,
        ResultTimeout,
        ResultTooLarge,
        SettingsError,
        StoreUnavailable,
        StreamEnded,
        StreamFull,
        StreamGap,
        TaskRevokedError,
        UnknownStore,
        Unsupported,
        WouldBlockLoop,
    )
    from aioresult.groups import GroupResult, ResultSet
    from aioresult.many import gather, wait
    from aioresult.record import Record
    from aioresult.reporting import progress
    from aioresult.result import AsyncResult
    from aioresult.runner import TaskRunner
    from aioresult.settings import Settings
    from aioresult.states import (
        ALL_STATES,
        EXCEPTION_STATES,
        FAILURE,
        IGNORED,
        PENDING,
        PROGRESS,
        PROPAGATE_STATES,
        READY_STATES,
        RECEIVED,
        REJECTED,
        RETRY,
        REVOKED,
        STARTED,
        SUCCESS,
        UNREADY_STATES,
    )
    from aioresult.stream import Item

__version__ = "0.1.0"

_HOMES = {
    "backend": "Backend configure get_backend",
    "codec.exceptions": "register_exception",
    "errors": (
        "AioResultError BackendNotConfigured DecodeError EncodeError InvalidTaskId MissingDriver "
        "RemoteTaskError RemoteTraceback ResultNotStored ResultTimeout ResultTooLarge SettingsError "
        "StoreUnavailable StreamEnded StreamFull StreamGap TaskRevokedError UnknownStore Unsupported WouldBlockLoop"
    ),
    "collecting": "as_completed",
    "emitting": "emit flush",
    "groups": "GroupResult ResultSet",
    "many": "gather wait",
    "record": "Record",
    "reporting": "progress",
    "result": "AsyncResult",
    "runner": "TaskRunner",
    "settings": "Settings",
    "states": (
        "ALL_STATES EXCEPTION_STATES FAILURE IGNORED PENDING PROGRESS PROPAGATE_STATES READY_STATES RECEIVED "
        "REJECTED RETRY REVOKED STARTED SUCCESS UNREADY_STATES"
    ),
    "stream": "Item",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "ALL_STATES",
    "EXCEPTION_STATES",
    "FAILURE",
    "IGNORED",
    "PENDING",
    "PROGRESS",
    "PROPAGATE_STATES",
    "READY_STATES",
    "RECEIVED",
    "REJECTED",
    "RETRY",
    "REVOKED",
    "STARTED",
    "SUCCESS",
    "UNREADY_STATES",
    "AioResultError",
    "AsyncResult",
    "Backend",
    "BackendNotConfigured",
    "DecodeError",
    "EncodeError",
    "GroupResult",
    "InvalidTaskId",
    "Item",
    "MissingDriver",
    "Record",
    "RemoteTaskError",
    "RemoteTraceback",
    "ResultNotStored",
    "ResultSet",
    "ResultTimeout",
    "ResultTooLarge",
    "Settings",
    "SettingsError",
    "StoreUnavailable",
    "StreamEnded",
    "StreamFull",
    "StreamGap",
    "TaskRevokedError",
    "TaskRunner",
    "UnknownStore",
    "Unsupported",
    "WouldBlockLoop",
    "__version__",
    "as_completed",
    "configure",
    "emit",
    "flush",
    "gather",
    "get_backend",
    "progress",
    "register_exception",
    "wait",
]
