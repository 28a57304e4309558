"""Items of a task's stream, from within a Celery task."""

from __future__ import annotations

from typing import Any

from celery import current_task

from aioresult.errors import AioResultError
from aioresult.integrations.celery.backends import shared_backend
from aioresult.sync.portal import run_anywhere


def emit(*values: Any) -> int:
    """Append ``values`` to the stream of the Celery task that is running, and return the number of the last item.

    ``AsyncResult.stream`` reads it. It works with Celery's own result backends and with ``aioresult+...``, in every
    pool. It returns when the items are stored, so they are stored before the task's result; what several threads emit
    at the same time is stored together. The items of a retried task follow those of the earlier attempts; their
    ``attempt`` differs.

    Returns:
        The number of the last item; 0 if the task ignores its result, because no reader would see its stream's end.

    Raises:
        AioResultError: no Celery task is running here.
        StreamEnded: the task is final already, for example because it was revoked.
        StreamFull: the stream would hold more than ``stream_max_items``.
        EncodeError, ResultTooLarge: a value cannot be encoded.
        StoreUnavailable: the store cannot be reached.
        Unsupported: the store keeps no streams.
    """
    request = current_task.request if current_task else None
    if request is None or not request.id:
        raise AioResultError(
            "emit() is for the Celery task that is running, and none is running here; in a function of a TaskRunner "
            "use aioresult.emit, and anywhere else Backend.append"
        )
    if request.ignore_result:
        return 0
    backend = shared_backend(current_task.app)
    return run_anywhere(backend.append, request.id, *values, attempt=request.retries or 0)
