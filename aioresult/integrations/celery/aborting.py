"""Aborting tasks of ``celery.contrib.abortable``, which check whether they have been aborted."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from aioresult.backend import Backend
from aioresult.integrations.celery import internals
from aioresult.integrations.celery.backends import shared_backend
from aioresult.integrations.celery.protocols import App
from aioresult.integrations.celery.revoking import Identified
from aioresult.record import check_task_id
from aioresult.result import AsyncResult
from aioresult.states import ABORTED


async def abort(task_id: str | UUID | Identified, *, app: App | None = None, backend: Backend | None = None) -> bool:
    """Ask a task that is a ``celery.contrib.abortable.AbortableTask`` to end.

    It stores the state ABORTED, as ``AbortableAsyncResult.abort`` does; the task's ``is_aborted()`` is true from then
    on. As in Celery that state is not final: waiters and readers of the stream continue until the task has ended, and
    get what it returns or raises. Another state that the task stores meanwhile replaces ABORTED. A task that ends by
    raising ``Ignore`` never becomes final, so its waiters need a timeout.

    Args:
        task_id: the id, or a result.
        app: the Celery application in whose result backend the state is stored; by default that of the result, if it is
            known, or else the current one.
        backend: where to store it instead; by default where the result is awaited.

    Returns:
        Whether it was stored; false if the task is final already. (Celery replaces some final states.)

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    result = getattr(task_id, "mirrored", task_id)
    if backend is None:
        if isinstance(result, AsyncResult) and app is None:
            backend = cast("Backend", result.backend)
        else:
            backend = shared_backend(app or getattr(result, "app", None) or internals.the_current_app())
    # Celery stores it even if results are ignored: there is no other way to tell the task.
    return await backend.store_result(check_task_id(getattr(result, "id", result)), None, ABORTED, ignore_result=False)
