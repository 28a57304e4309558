"""A runner's lease: a record in the store that its process is alive, as long as it has tasks to run."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from contextlib import suppress

from aioresult.abc import Store
from aioresult.backend import Backend
from aioresult.background import Background
from aioresult.backoff import Backoff
from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.forks import follow
from aioresult.record import RUNNER

logger = logging.getLogger("aioresult")

_RENEWALS: int = 3
"""How often a lease is renewed within its time: two renewals may fail before it ends."""


class Lease:
    """One record for all tasks of a runner, renewed at a third of its time while there are tasks.

    It is taken before the first state of a task is stored, because a state that names a runner without a lease would
    look like that of a lost runner. While the store is unavailable, taking it is retried, and states are not stored.

    Args:
        seconds: how long the lease lasts, by the store's clock, when it is not renewed; ``None`` for no lease.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not 0 < seconds < math.inf:
            raise ValueError(f"lease is a positive number of seconds, or None for no lease, not {seconds!r}")
        self._seconds = seconds or 0.0
        self._start_afresh()
        follow(self)

    def _start_afresh(self) -> None:
        """Begin a new lease. A forked child needs its own, because its parent may live longer or shorter."""
        self.runner = uuid.uuid4().hex
        self._backend: Backend
        self._tasks = 0
        self._renewed_at = -math.inf
        self._refused = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._attempt: asyncio.Future[AioResultError | None] | None = None
        self._idle: asyncio.Event
        self._renewing: Background

    def mark(self, backend: Backend, store: Store) -> str | None:
        """Return the ``traceback`` of the states that a runner stores before a task's end; ``None`` for no lease.

        May be called in any thread, so the caller passes the ``store`` of the task's event loop.
        """
        if not self._seconds or self._refused or not store.keeps_leases:
            return None
        self._backend = backend
        return RUNNER + self.runner

    def enter(self) -> None:
        """Count one more task."""
        self._tasks += 1
        if self._loop is not None:
            self._idle.clear()

    def leave(self) -> None:
        """Count one task less; without tasks the lease is not renewed."""
        self._tasks -= 1
        if not self._tasks and self._loop is not None:
            self._idle.set()
            self._backend._runtime.hub.own_runners.discard(self.runner)

    async def held(self) -> bool:
        """Wait until the lease is in effect, and return true; false where the store refuses it.

        Raises:
            StoreUnavailable: the store is unavailable; taking the lease is retried, and this may be called again.
        """
        if self._refused or not self._seconds:
            return False
        self._keep_renewing()
        if time.monotonic() < self._renewed_at + self._seconds / _RENEWALS:
            return True  # later a renewal is due, and only its outcome tells whether the lease has ended
        if self._attempt is None:
            self._attempt = asyncio.get_running_loop().create_future()
        error = await asyncio.shield(self._attempt)
        if isinstance(error, StoreUnavailable):
            raise error
        return error is None

    def _keep_renewing(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the runner may be used in one loop after the other
            self._loop, self._timer, self._attempt, self._idle = loop, None, None, asyncio.Event()
            self._renewing = Background(self._renew, f"aioresult lease of runner {self.runner}", pending=lambda: False)
        self._backend._runtime.hub.own_runners.add(self.runner)
        if self._timer is None and not self._renewing.running:
            self._renew_later(loop)

    def _renew_later(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = self._renewed_at + self._seconds / _RENEWALS - time.monotonic()
        self._timer = loop.call_later(max(pause, 0), self._due)

    def _due(self) -> None:
        self._timer = None
        if self._tasks:
            self._renewing.begin()

    async def _renew(self) -> None:
        """Renew the lease once; while the store is unavailable, retry until there are no tasks."""
        backoff, complained = Backoff(), False
        try:
            while self._tasks and (error := await self._renewed()) is not None and not self._refused:
                if not complained:
                    logger.warning("the lease of runner %s is not renewed now, and tried again: %s", self.runner, error)
                    complained = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next()):
                        await self._idle.wait()
        finally:
            self._answer(StoreUnavailable(f"the lease of runner {self.runner} was given up before the store answered"))
        if self._tasks and not self._refused:
            self._renew_later(asyncio.get_running_loop())

    async def _renewed(self) -> AioResultError | None:
        """Renew the lease, wake those that wait for it, and return the error if it was not renewed."""
        began = time.monotonic()
        error: AioResultError | None = None
        try:
            async with self._backend._runtime.calling() as store:
                await store.renew_lease(self.runner, self._seconds)
            self._renewed_at = began
        except StoreUnavailable as exc:
            error = exc
        except AioResultError as exc:
            self._refused = True
            logger.warning("this runner has no lease: where its process dies, those who wait are not told: %s", exc)
            error = exc
        self._answer(error)
        return error

    def _answer(self, error: AioResultError | None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.set_result(error)

    async def end(self) -> None:
        """Delete the lease, if there is one. If that fails, the lease expires by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            await self._renewing.finish()
        if self._renewed_at == -math.inf:
            return
        self._renewed_at = -math.inf
        try:
            async with self._backend._runtime.calling() as store:
                await store.end_lease(self.runner)
        except AioResultError as exc:
            logger.info("the lease of runner %s was not deleted, and ends by itself: %s", self.runner, exc)
