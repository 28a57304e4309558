"""The asynchronous part of the plugin's waiting: batches of records, to be iterated through the portal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aioresult.backend import Backend
from aioresult.record import Record
from aioresult.runtime import LOOK_ONCE, deadline_after
from aioresult.waiting import Inbox

_UNREAD_STATES = 1000
"""States other than final ones that are kept for a caller that is slower than the task; older ones are dropped."""


async def records(
    backend: Backend, ids: Sequence[str], timeout: float | None, *, finals_only: bool
) -> AsyncIterator[list[Record]]:
    """Yield the records of ``ids`` as they come, those that come together in one list, until all are final.

    Args:
        backend: where to wait.
        ids: distinct ids.
        timeout: seconds for all together; 0 looks once.
        finals_only: leave other states out.

    Raises:
        ResultTimeout: not all were final in time; what was has been yielded.
    """
    runtime = backend._runtime
    outstanding = {runtime.check(task_id) for task_id in ids}
    deadline = deadline_after(timeout)
    if deadline == LOOK_ONCE:
        found = list((await runtime.look_many(ids)).values())
        outstanding.difference_update(record.id for record in found if record.ended)
        if shown := [record for record in found if record.ended or not finals_only]:
            yield shown
    else:
        inbox = Inbox(finals_only=finals_only, limit=None if finals_only else _UNREAD_STATES + len(ids))
        runtime.hub.join(ids, inbox)
        try:
            last: dict[str, Record] = {}
            while outstanding and (batch := await _batch(inbox, deadline)):
                outstanding.difference_update(record.id for record in batch if record.ended)
                if news := _news(batch, last):
                    yield news
        finally:
            runtime.hub.leave(outstanding, inbox)
    if outstanding:
        raise runtime.timeout_error(ids, len(outstanding), timeout)


def _news(batch: list[Record], last: dict[str, Record]) -> list[Record]:
    """Return what is not the repetition of a task's ``last`` state: a state may be both looked up and announced."""
    news: list[Record] = []
    for record in batch:
        if last.get(record.id) != record:
            news.append(record)
            if not record.ended:
                last[record.id] = record
    return news


async def _batch(inbox: Inbox, deadline: float | None) -> list[Record]:
    """Return the next record and all that are there with it; nothing once ``deadline`` has passed."""
    batch: list[Record] = []
    record = await inbox.next(deadline)
    while record is not None:
        batch.append(record)
        record = await inbox.next(0)  # a deadline that has passed: only what is there already
    return batch
