"""Await the results of tasks by push: Celery's result formats, asyncio's verbs."""

from aioresult.backend import Backend, configure, get_backend
from aioresult.codec.exceptions import register_exception
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
    TaskRevokedError,
    Unsupported,
    WouldBlockLoop,
)
from aioresult.groups import GroupResult, ResultSet, as_completed, gather, wait
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

__version__ = "0.1.0"

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
    "TaskRevokedError",
    "TaskRunner",
    "Unsupported",
    "WouldBlockLoop",
    "__version__",
    "as_completed",
    "configure",
    "gather",
    "get_backend",
    "progress",
    "register_exception",
    "wait",
]
