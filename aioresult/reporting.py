"""States that a running task reports before its end: STARTED and its progress."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from typing import Any

from msgspec.structs import replace

from aioresult import states
from aioresult.backend import Backend
from aioresult.background import Background
from aioresult.errors import AioResultError
from aioresult.leases import Lease
from aioresult.record import Record

logger = logging.getLogger("aioresult")


class Reports:
    """Stores the states of one task before its end. If they come faster than the store takes them, only the last one is
    stored.
    """

    def __init__(self, backend: Backend, task_id: str, ignored: bool, lease: Lease) -> None:
        self._backend = backend
        self._ignored = ignored
        self._task_id = task_id
        self._store = backend._runtime.store
        self._loop = asyncio.get_running_loop()
        self._lease = lease
        self._error: AioResultError | None = None
        self._next: tuple[Record, Record] | None = None
        self._writing = Background(self._write, f"aioresult states of {task_id:.60}", pending=lambda: self._next)

    def report(self, state: str, meta: Any) -> None:
        """Store ``state`` soon, unless results are ignored; may be called from any thread, and never blocks."""
        if self._error is not None:
            raise self._error
        if self._backend.settings.ignores(state, self._ignored):
            return
        plain = Record(id=self._task_id, status=state, result=meta)
        record = self._store.encode(replace(plain, traceback=self._lease.mark(self._backend, self._store)))
        self._loop.call_soon_threadsafe(self._set_next, record, plain)

    def _set_next(self, record: Record, plain: Record) -> None:
        if self._error is not None:  # a thread reports while the task ends
            return
        self._next = record, plain
        self._writing.begin()

    async def _write(self) -> None:
        while self._next is not None:
            (record, plain), self._next = self._next, None
            try:
                if record.traceback is not None and not await self._lease.held():
                    record = self._store.encode(plain)  # a state that names a runner without a lease would look lost
                await self._backend._put_record(record)
            except AioResultError:
                where = self._store.location
                logger.warning("a state of task %r was not stored in %s", self._task_id, where, exc_info=True)

    def close(self, error: AioResultError) -> None:
        """Accept no more reports: later calls of ``report`` raise ``error``."""
        if self._error is None:
            self._error = error

    async def settle(self) -> None:
        """Drop what was not sent yet, and wait until the rest is stored, since the final state is stored next."""
        self._next = None
        await self._writing.finish()


current_reports: ContextVar[Reports] = ContextVar("aioresult_current_reports")


def progress(current: float, total: float | None = None, **meta: Any) -> None:
    """Report the progress of the task that is running: stored as state PROGRESS with ``{"current": ..., "total":
    ...}``.

    For functions that a ``TaskRunner`` runs, coroutine functions and plain ones in a thread alike. Returns at once; if
    reports come faster than the store takes them, only the last one is stored. If the task's result is ignored, its
    progress is ignored too.

    Args:
        current: how much is done.
        total: how much there is, if known.
        meta: anything else to show to watchers.

    Raises:
        TaskRevokedError: the task was revoked or cancelled.
        AioResultError: no task of a runner is running here.
        EncodeError: ``meta`` cannot be encoded.
    """
    reports = current_reports.get(None)
    if reports is None:
        raise AioResultError(
            "progress() is for the task that a TaskRunner is running, and none is running here; anywhere else use "
            "Backend.update_state"
        )
    reports.report(states.PROGRESS, {"current": current, "total": total, **meta})
