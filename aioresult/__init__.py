"""Await the results of tasks by push: Celery's result formats, asyncio's verbs.

Each name is loaded at its first use. Code that only catches errors, or reads the version, need not wait for the import
of asyncio and everything else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers, a name is public here if it is imported as itself
    from aioresult.backend import Backend as Backend
    from aioresult.backend import configure as configure
    from aioresult.backend import get_backend as get_backend
    from aioresult.codec.exceptions import register_exception as register_exception
    from aioresult.collecting import as_completed as as_completed
    from aioresult.emitting import emit as emit
    from aioresult.emitting import flush as flush
    from aioresult.errors import AccessDenied as AccessDenied
    from aioresult.errors import AioResultError as AioResultError
    from aioresult.errors import BackendNotConfigured as BackendNotConfigured
    from aioresult.errors import DecodeError as DecodeError
    from aioresult.errors import EncodeError as EncodeError
    from aioresult.errors import InvalidTaskId as InvalidTaskId
    from aioresult.errors import MissingDriver as MissingDriver
    from aioresult.errors import RemoteTaskError as RemoteTaskError
    from aioresult.errors import RemoteTraceback as RemoteTraceback
    from aioresult.errors import ResultNotStored as ResultNotStored
    from aioresult.errors import ResultTimeout as ResultTimeout
    from aioresult.errors import ResultTooLarge as ResultTooLarge
    from aioresult.errors import SettingsError as SettingsError
    from aioresult.errors import StoreUnavailable as StoreUnavailable
    from aioresult.errors import StreamEnded as StreamEnded
    from aioresult.errors import StreamFull as StreamFull
    from aioresult.errors import StreamGap as StreamGap
    from aioresult.errors import TaskLost as TaskLost
    from aioresult.errors import TaskRevokedError as TaskRevokedError
    from aioresult.errors import UnknownStore as UnknownStore
    from aioresult.errors import Unsupported as Unsupported
    from aioresult.errors import WouldBlockLoop as WouldBlockLoop
    from aioresult.groups import GroupResult as GroupResult
    from aioresult.groups import ResultSet as ResultSet
    from aioresult.many import gather as gather
    from aioresult.many import wait as wait
    from aioresult.record import Record as Record
    from aioresult.reporting import progress as progress
    from aioresult.result import AsyncResult as AsyncResult
    from aioresult.runner import TaskRunner as TaskRunner
    from aioresult.settings import Settings as Settings
    from aioresult.states import ABORTED as ABORTED
    from aioresult.states import ALL_STATES as ALL_STATES
    from aioresult.states import EXCEPTION_STATES as EXCEPTION_STATES
    from aioresult.states import FAILURE as FAILURE
    from aioresult.states import IGNORED as IGNORED
    from aioresult.states import PENDING as PENDING
    from aioresult.states import PROGRESS as PROGRESS
    from aioresult.states import PROPAGATE_STATES as PROPAGATE_STATES
    from aioresult.states import READY_STATES as READY_STATES
    from aioresult.states import RECEIVED as RECEIVED
    from aioresult.states import REJECTED as REJECTED
    from aioresult.states import RETRY as RETRY
    from aioresult.states import REVOKED as REVOKED
    from aioresult.states import STARTED as STARTED
    from aioresult.states import SUCCESS as SUCCESS
    from aioresult.states import UNREADY_STATES as UNREADY_STATES
    from aioresult.stopping import revoked as revoked
    from aioresult.stream import Item as Item

__version__ = "0.1.0"

_HOMES = {
    "backend": "Backend configure get_backend",
    "codec.exceptions": "register_exception",
    "errors": (
        "AccessDenied AioResultError BackendNotConfigured DecodeError EncodeError InvalidTaskId MissingDriver "
        "RemoteTaskError RemoteTraceback ResultNotStored ResultTimeout ResultTooLarge SettingsError "
        "StoreUnavailable StreamEnded StreamFull StreamGap TaskLost TaskRevokedError UnknownStore Unsupported "
        "WouldBlockLoop"
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
        "ABORTED ALL_STATES EXCEPTION_STATES FAILURE IGNORED PENDING PROGRESS PROPAGATE_STATES READY_STATES "
        "RECEIVED REJECTED RETRY REVOKED STARTED SUCCESS UNREADY_STATES"
    ),
    "stopping": "revoked",
    "stream": "Item",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
