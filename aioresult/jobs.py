"""One task of a runner: whether its function may be called, and which stored states its final state may replace."""

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
    """One task of a runner.

    Args:
        backend: where it is stored.
        task_id: the task's id.
        ignored: whether its result is ignored; then it cannot be stopped from another process.
        once: whether its function is called only where nothing is stored under the id.
        lease: of the runner.
        recorder: of the runner.
    """

    running: asyncio.Task[Outcome | None]
    """The asyncio task that calls the function."""
    overs: tuple[str | None, ...]
    """What the final state may replace, tried in this order; ``None`` for the plain rule."""

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
        if once:  # the answer to the claim may be lost: then the final state replaces our own claim, or nothing
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
        """Receive final states that others store, until the final state of this task is stored."""
        if not self.ignored:
            self.stop.listen(self._backend._runtime.hub, self._recorder.listening_lost)

    def close(self, error: AioResultError) -> None:
        """Accept no more states and items: a later report raises ``error``."""
        if isinstance(error, TaskRevokedError) and self.stop.error is None:
            self.stop.error = error
        self.reports.close(error)
        self.emitter.close(error)

    async def settle(self) -> None:
        """Wait until everything that was reported is stored, since the final state is stored next."""
        await self.reports.settle()
        await self.emitter.settle()

    def leave(self) -> None:
        """Release what the task held, once its final state is stored."""
        if not self.ignored:
            self._lease.leave()

    # --- before the function is called ---

    def started(self) -> None:
        """Report STARTED."""
        self.reports.report(states.STARTED, {"hostname": socket.gethostname()})

    async def look(self) -> None:
        """Read what is stored under an id that the caller has given: a task that was revoked does not run.

        What an earlier run has stored is ignored, except that SUCCESS is never replaced.
        """
        if self.ignored:
            return
        try:
            record = await self._backend._runtime.look(self.id)
        except AioResultError:  # the store is unavailable: the final state is stored later, unless the task was revoked
            record = None
        if record is None or not record.ready:
            self.listen()
        elif record.status == states.REVOKED:
            self.stop.take(record)
        else:
            self.overs = (None,)

    async def claim(self) -> bool:
        """Store STARTED if nothing is stored under the id; return whether it was stored: then the task is ours."""
        backend = self._backend
        # No two claims are equal, so the stored record shows whether it is this one.
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
