"""``celery.contrib.abortable.AbortableAsyncResult`` for blocking callers."""

from __future__ import annotations

from typing import TypeVar

from aioresult.states import ABORTED
from aioresult.sync.result import AsyncResult

T = TypeVar("T")


class AbortableAsyncResult(AsyncResult[T]):
    """The result of a task that checks whether it has been aborted; it is made like an ``AsyncResult``."""

    __slots__ = ()

    def is_aborted(self) -> bool:
        """Return whether the task has been asked to end, and has not ended yet."""
        return self.status == ABORTED

    def abort(self) -> bool:
        """Ask the task to end; see ``aioresult.integrations.celery.abort``.

        Returns:
            Whether it was stored; false if the task is final already.
        """
        # Celery stores it even if results are ignored: there is no other way to tell the task.
        return self.backend.store_result(self.id, None, ABORTED, ignore_result=False)
