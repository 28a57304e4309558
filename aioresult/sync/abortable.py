"""``celery.contrib.abortable.AbortableAsyncResult`` for blocking callers."""

from __future__ import annotations

from typing import TypeVar

from aioresult.states import ABORTED
from aioresult.sync.result import AsyncResult

T = TypeVar("T")


class AbortableAsyncResult(AsyncResult[T]):
    """The result of a task that looks whether it has been aborted; it is made as an ``AsyncResult`` is."""

    __slots__ = ()

    def is_aborted(self) -> bool:
        """Return whether the task has been asked to end, and has not ended yet."""
        return self.status == ABORTED

    def abort(self) -> bool:
        """Ask the task to end; see ``aioresult.integrations.celery.abort``.

        Returns:
            Whether it was stored. It is not where the task is final already.
        """
        # Celery stores it also where results are ignored: the task could not be told otherwise.
        return self.backend.store_result(self.id, None, ABORTED, ignore_result=False)
