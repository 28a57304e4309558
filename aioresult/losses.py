"""Tasks whose runner is gone: a process that waits for such a task stores it as lost, so that all others see the same.

Only the fallback read checks leases. It notes which tasks a ``TaskRunner`` runs, and asks the store once for all of
their runners.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Collection

from aioresult.abc import Store
from aioresult.background import Background
from aioresult.batching import Batcher
from aioresult.errors import AioResultError, TaskLost
from aioresult.record import RUNNER, Record, conditional, record_of
from aioresult.settings import Settings
from aioresult.states import FAILURE

SILENCE = 1.0
"""Seconds without an answer to the fallback read that count as an outage."""

logger = logging.getLogger("aioresult")


def grace(settings: Settings) -> float:
    """Return how many seconds runners have to renew their leases after an outage.

    A runner may have begun to connect just before the end of the outage. When that fails, it retries within two
    seconds.
    """
    return settings.connect_timeout + 5.0


class Losses:
    """Finds the lost tasks of one hub; ``look_at`` reads an id again, for its waiters."""

    def __init__(self, store: Store, batcher: Batcher, look_at: Callable[[str], None]) -> None:
        self._store = store
        self._batcher = batcher
        self._look_at = look_at
        self._unread: set[str] = set()
        self._noted: dict[str, Record] = {}
        self._reconnects = 0
        self._judges_from = -math.inf
        self._heard_at = 0.0
        self._asked = False
        """Whether a fallback read has begun, and the store has answered no read since."""
        self._warned = False
        self._judging = Background(self._judge, "aioresult leases of runners", pending=lambda: None)
        self.own: set[str] = set()
        """Runners of this process, which are alive as long as the process is, even if they could not renew their
        lease."""
        self.steady = True
        """Whether the store has been reachable all the time since the last fallback read."""

    def begin(self, ids: Collection[str], reconnects: int) -> None:
        """Prepare to note the tasks that the fallback read of ``ids`` finds; it begins now.

        After an outage no task is found lost until the next fallback read, and not for ``grace`` seconds: a lease may
        have ended because the store was unavailable, and its runner needs time to notice that the store is back and to
        renew it.
        """
        now = asyncio.get_running_loop().time()
        steady = self.steady and reconnects == self._reconnects
        if not self._asked:  # else the store may have been silent since the read before
            self._heard_at = now
        self._asked = bool(ids)
        if not steady:
            self._judges_from = now + grace(self._store.settings)
        judged = steady and now >= self._judges_from and self._store.keeps_leases
        self._unread = set(ids) if judged else set()
        self._reconnects = reconnects
        self.steady = True

    def note(self, record: Record) -> None:
        """Note a record that is not final."""
        if record.id in self._unread and self._is_prompt(self._heard_at):
            self._heard_at = asyncio.get_running_loop().time()
            self._unread.discard(record.id)
            if record.runner is not None and record.runner not in self.own:
                self._noted[record.id] = record

    def _is_prompt(self, since: float) -> bool:
        """Return whether little time has passed ``since`` the store was asked, or has answered.

        Some drivers wait for the end of an outage and say nothing.
        """
        if asyncio.get_running_loop().time() - since <= SILENCE:
            return True
        self.steady = False
        self._unread.clear()
        self._noted.clear()
        return False

    def judge(self) -> None:
        """Ask for the leases of the runners noted so far; called when the store has answered a read."""
        self._asked = False
        if self._noted:
            self._judging.begin()

    async def _judge(self) -> None:
        while self._noted:
            noted, self._noted = self._noted, {}
            by_runner: defaultdict[str, list[Record]] = defaultdict(list)
            for record in noted.values():
                by_runner[record.runner or ""].append(record)
            try:
                asked_at = asyncio.get_running_loop().time()
                ended = await self._store.ended_leases(list(by_runner))
                if not self._is_prompt(asked_at):
                    continue
                lost = [record for runner in ended for record in by_runner[runner]]
                await asyncio.gather(*(self._batcher.put(self._loss(record)) for record in lost))
            except AioResultError:  # the next fallback read tries again
                if not self._warned:
                    self._warned = True
                    logger.warning(
                        "it could not be found out whether the runners of tasks in %s are alive",
                        self._store.location,
                        exc_info=True,
                    )
                continue
            for record in lost:  # also if another state was stored meanwhile: all waiters see what is stored
                self._look_at(record.id)

    def _loss(self, record: Record) -> Record:
        """Return the record that replaces ``record``, unless its runner has stored a final state meanwhile."""
        host = record.result.get("hostname") if isinstance(record.result, dict) else None
        where = f" on {host}" if isinstance(host, str) else ""
        error = TaskLost(
            f"task {record.id!r} is lost: its runner {record.runner}{where} has not renewed its lease in time, "
            f"so that its process has ended, or was stopped for too long"
        )
        lost = record_of(record.id, error, FAILURE, parent_id=record.parent_id, group_id=record.group_id)
        return self._store.encode(conditional(lost, f"{RUNNER}{record.runner}"))

    async def cancel(self) -> None:
        """End the check in flight."""
        self._noted.clear()
        await self._judging.cancel()
