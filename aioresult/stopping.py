"""Stopping a task of a runner: because it was cancelled here, or because another process has stored a final state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar

from aioresult import states
from aioresult.backoff import Backoff
from aioresult.errors import AioResultError, ResultNotStored, StoreUnavailable, TaskRevokedError
from aioresult.hub import Hub
from aioresult.members import Waiter
from aioresult.record import Record

logger = logging.getLogger("aioresult")


class Stop:
    """Whether one task must stop, and why. ``tell`` is called once, when another process has stored its final state.

    Attributes:
        error: why the task must stop; ``None`` if it need not.
        told: the final record that another process has stored; nothing from this run replaces it.
    """

    __slots__ = ("_again", "_backoff", "_hub", "_listening_lost", "_tell", "_waiter", "error", "task_id", "told")

    def __init__(self, task_id: str, tell: Callable[[TaskRevokedError], None]) -> None:
        self.task_id = task_id
        self.error: TaskRevokedError | None = None
        self.told: Record | None = None
        self._tell = tell
        self._hub: Hub | None = None
        self._waiter: Waiter | None = None
        self._again: asyncio.TimerHandle | None = None
        """Listens again, after the store was unavailable."""
        self._backoff = Backoff()

    def listen(self, hub: Hub, listening_lost: Callable[[Exception], None]) -> None:
        """Receive final states of the task until ``leave``; call ``listening_lost`` with the error if that fails."""
        self._hub, self._listening_lost = hub, listening_lost
        self._begin(hub)

    def _begin(self, hub: Hub) -> None:
        try:
            self._waiter = hub.add(self.task_id, None)
        except AioResultError as exc:
            self._listening_lost(exc)
        else:
            self._waiter.add_done_callback(self._on_final)

    def leave(self) -> None:
        """Receive no more, because this run stores a final state next. One that has arrived by now still counts."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and self._hub is not None:
            waiter.remove_done_callback(self._on_final)
            if waiter.done():
                self._on_final(waiter)
            else:
                self._hub.leave((self.task_id,), waiter)
                waiter.cancel()
        if self._again is not None:
            self._again.cancel()

    def _on_final(self, waiter: Waiter) -> None:
        if waiter.cancelled() or self.told is not None:
            return
        if (error := waiter.exception()) is not None:
            if isinstance(error, StoreUnavailable) and self._hub is not None:  # the store has never answered until now
                self._again = waiter.get_loop().call_later(self._backoff.next(), self._begin, self._hub)
            elif isinstance(error, Exception) and not isinstance(error, ResultNotStored):  # disabled:// has no results
                self._listening_lost(error)
            return
        record = waiter.result()
        if record is not None and record.ready:
            self.take(record)

    def take(self, record: Record) -> None:
        """Stop the task, because ``record`` is stored."""
        self.told = record
        if record.status == states.REVOKED:
            reason = str(record.result)
            logger.info("task %r was revoked: %s", self.task_id, reason)
        else:
            reason = (
                f"somebody else has stored how task {self.task_id!r} ended: {record.status} ({record.result!r:.200})"
            )
            logger.warning("task %r is stopped, and what it returns is dropped: %s", self.task_id, reason)
        self.error = TaskRevokedError(reason)
        self._tell(self.error)


current_stop: ContextVar[Stop] = ContextVar("aioresult_current_stop")


def revoked() -> bool:
    """Return whether the task that is running must stop, because it was revoked, or is final for another reason.

    For functions that a ``TaskRunner`` runs in a thread, which cannot be cancelled: they should check this now and
    then, and return. Coroutines are cancelled.

    Raises:
        AioResultError: no task of a runner is running here.
    """
    stop = current_stop.get(None)
    if stop is None:
        raise AioResultError("revoked() is for the task that a TaskRunner is running, and none is running here")
    return stop.error is not None
