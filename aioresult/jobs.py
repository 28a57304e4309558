"""One task of a runner: whether its function may be called, and over what its end is stored."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime

from aioresult import states
from aioresult.backend import Backend
from aioresult.backoff import Backoff, retried, time_is_up
from aioresult.emitting import Emitter, current_emitter
from aioresult.errors import AioResultError, StoreUnavailable, TaskRevokedError, Unsupported
from aioresult.leases import Lease
from aioresult.record import ABSENT, UNFINISHED, Record, conditional
from aioresult.recording import Outcome, Recorder
from aioresult.reporting import Reports, current_reports
from aioresult.stopping import Stop, current_stop


class Job:
    """What belongs to one task.

    Args:
        backend: where it is stored.
        task_id: the task's id.
        ignored: whether its result is ignored: it cannot be stopped from elsewhere then.
        once: whether its function is called only where nothing is stored under the id.
        lease: of the runner.
        recorder: of the runner.
    """

    running: asyncio.Task[Outcome | None]
    """Calls the function."""
    overs: tuple[str | None, ...]
    """Over what the final state may be stored, tried in this order; ``None`` for the plain rule."""

    def __init__(
        self,
        backend: Backend,
        task_id: str,
        *,
        ignored: bool,
        once: bool,
        lease: Lease,
        recorder: Recorder,
    ) -> None:
        self.id = task_id
        self.ignored = ignored
        self.overs = (UNFINISHED,)
        if once:  # the answer to the claim may be lost: the end is then stored over our own claim, or over nothing
            self.overs = (*filter(None, [lease.mark(backend, backend._runtime.store)]), ABSENT)
        self.stop = Stop(task_id, self._told)
        self.reports = Reports(backend, task_id, ignored, lease)
        self.emitter = Emitter(backend, task_id, ignored, recorder.timeout)
        self._backend = backend
        self._lease = lease
        self._recorder = recorder
        if not ignored:
            lease.enter()

    def _told(self, error: TaskRevokedError) -> None:
        self.close(error)
        self.running.cancel()

    def enter(self) -> None:
        """Make this the task that the current context belongs to."""
        current_reports.set(self.reports)
        current_emitter.set(self.emitter)
        current_stop.set(self.stop)

    def listen(self) -> None:
        """Hear of final states that others store, until the end of this task is stored."""
        if not self.ignored:
            self.stop.listen(self._backend._runtime.hub, self._recorder.listening_lost)

    def close(self, error: AioResultError) -> None:
        """Take no more states and items: what reports one is told ``error``."""
        if isinstance(error, TaskRevokedError) and self.stop.error is None:
            self.stop.error = error
        self.reports.close(error)
        self.emitter.close(error)

    async def settle(self) -> None:
        """Wait until what was reported is stored: the final state comes next."""
        await self.reports.settle()
        await self.emitter.settle()

    def leave(self) -> None:
        """Give back what the task held, once its end is stored."""
        if not self.ignored:
            self._lease.leave()

    # --- before the function is called ---

    def started(self) -> None:
        """Report STARTED."""
        self.reports.report(states.STARTED, {"hostname": socket.gethostname()})

    async def look(self) -> None:
        """Look at what is stored under an id that the caller has given: a task that was revoked does not run.

        What an earlier run has left is as if it were not there, except that SUCCESS is never replaced.
        """
        if self.ignored:
            return
        try:
            record = await self._backend._runtime.look(self.id)
        except AioResultError:  # the store is away: the end is stored later, unless the task was revoked
            record = None
        if record is None or not record.ready:
            self.listen()
        elif record.status == states.REVOKED:
            self.stop.take(record)
        else:
            self.overs = (None,)

    async def claim(self) -> bool:
        """Store STARTED if nothing is stored under the id, and return whether that was so: whether the task is ours."""
        backend = self._backend
        # No two claims are equal: what is stored tells whether it is this one.
        meta = {"hostname": socket.gethostname(), "started_at": datetime.now(UTC).isoformat()}
        store = backend._runtime.store
        record = Record(id=self.id, status=states.STARTED, result=meta, traceback=self._lease.mark(backend, store))
        encoded = store.encode(conditional(record, ABSENT))

        async def attempt() -> bool:
            if not await self._lease.held():
                raise Unsupported(
                    f"task {self.id!r}: once=True needs a lease, which {store.location} refuses; the log says why"
                )
            return await backend._put_record(encoded)

        try:
            if not await retried(attempt, Backoff(), give_up=time_is_up(self._recorder.timeout)):
                return False
        except StoreUnavailable as exc:
            self._recorder.lose(self.id, exc)
            return False
        self.overs = (UNFINISHED,)
        self.listen()
        return True
