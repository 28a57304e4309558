"""Records of many tasks as they arrive, in batches, because each step through the portal costs a thread switch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from aioresult.default import ResultBackend
from aioresult.record import Record
from aioresult.runtime import LOOK_ONCE, deadline_after
from aioresult.states import PENDING
from aioresult.waiting import Inbox

_UNREAD_STATES: Final = 1000
"""How many states that are not final are kept for a caller that is slower than the tasks; older ones are dropped."""


async def records(
    backend: ResultBackend, ids: Sequence[str], timeout: float | None, *, finals_only: bool
) -> AsyncGenerator[list[Record], None]:
    """Yield the records of ``ids`` as they arrive, in lists of those that arrive together, until all are final.

    Args:
        backend: where to wait.
        ids: distinct ids.
        timeout: seconds for all together; 0 looks once.
        finals_only: leave other states out.

    Raises:
        ResultTimeout: not all were final in time; those that were have been yielded.
    """
    runtime = backend._runtime
    outstanding = {runtime.check(task_id) for task_id in ids}
    deadline = deadline_after(timeout)
    last: dict[str, tuple[Any, ...]] = {}
    if deadline == LOOK_ONCE:
        found = (await runtime.look_many(ids)).values()
        outstanding.difference_update(record.id for record in found if record.ended)
        if news := _news([record for record in found if record.ended or not finals_only], last):
            yield news
    else:
        unread = _Unread(finals_only=finals_only, ids=len(ids))
        runtime.hub.join(ids, unread)
        try:
            while outstanding and (batch := await unread.batch(deadline)):
                outstanding.difference_update(record.id for record in batch if record.ended)
                if news := _news(batch, last):
                    yield news
        finally:
            runtime.hub.leave(outstanding, unread)
    if outstanding:
        raise runtime.timeout_error(ids, len(outstanding), timeout)


def _news(batch: list[Record], last: dict[str, tuple[Any, ...]]) -> list[Record]:
    """Return ``batch`` without repetitions of a task's ``last`` state: a state may be both read and announced."""
    news: list[Record] = []
    for record in batch:
        if record.ended:
            news.append(record)
        elif record.status != PENDING and last.get(record.id) != (seen := record.appearance()):
            last[record.id] = seen
            news.append(record)
    return news


class _Unread(Inbox):
    """Keeps the final record of each of ``ids`` tasks, and the newest of the other records."""

    def __init__(self, *, finals_only: bool, ids: int) -> None:
        super().__init__(finals_only=finals_only)
        self._most = ids + _UNREAD_STATES

    def push(self, record: Record) -> None:
        super().push(record)
        if len(self._records) > self._most:
            self._records.remove(next(record for record in self._records if not record.ended))

    async def batch(self, deadline: float | None) -> list[Record]:
        """Return the next record and all others that have arrived; nothing once ``deadline`` has passed."""
        batch: list[Record] = []
        record = await self.next(deadline)
        while record is not None:
            batch.append(record)
            record = await self.next(0)  # the deadline has passed: only records that have arrived already
        return batch
