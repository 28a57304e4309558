"""Waiting for tasks by their ids: for the final records of many, or for every state of one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from aioresult.errors import ResultNotStored
from aioresult.record import Record
from aioresult.runtime import LOOK_ONCE, Runtime
from aioresult.states import PENDING, PROPAGATE_STATES, SUCCESS

_UNREAD_STATES: Final = 1000
"""How many states are kept for a reader that is slower than the task; older ones are dropped."""


class Inbox:
    """A listener with a queue: records of many tasks, in the order in which they came, for one reader.

    If there are more than ``limit`` unread records, the oldest ones are dropped.
    """

    def __init__(self, *, finals_only: bool, limit: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._finals_only = finals_only
        self._records: deque[Record] = deque(maxlen=limit)
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None

    def push(self, record: Record) -> None:
        """Take a record from the hub."""
        if record.ended or not self._finals_only:
            self._records.append(record)
            self.wake()

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting; records that came before are still returned first."""
        self._error = error
        self.wake()

    def wake(self) -> None:
        """Make ``next`` return, with ``None`` if there is no record."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def next(self, deadline: float | None) -> Record | None:
        """Return the next record, or ``None`` once ``deadline`` (in the loop's time) has passed."""
        if not self._records and self._error is None:
            self._reader = self._loop.create_future()
            timer = None if deadline is None else self._loop.call_at(deadline, self.wake)
            try:
                await self._reader
            finally:
                self._reader = None
                if timer is not None:
                    timer.cancel()
        if self._records:
            return self._records.popleft()
        if self._error is not None:
            raise self._error
        return None


async def finals(runtime: Runtime, ids: Sequence[str], deadline: float | None) -> AsyncGenerator[Record, None]:
    """Yield the final (or unreadable) record of each of ``ids`` as it arrives, until all are there or ``deadline``."""
    if deadline == LOOK_ONCE:
        for record in (await runtime.look_many(ids)).values():
            if record.ended:
                yield record
        return
    inbox = Inbox(finals_only=True)
    outstanding = set(ids)
    runtime.hub.join(ids, inbox)
    try:
        while outstanding and (arrived := await inbox.next(deadline)) is not None:
            outstanding.discard(arrived.id)
            yield arrived
    finally:
        runtime.hub.leave(outstanding, inbox)


async def states(runtime: Runtime, task_id: str, deadline: float | None) -> AsyncGenerator[Record, None]:
    """Yield each state of ``task_id`` until the final one, or until ``deadline``; raise where one cannot be read."""
    if deadline == LOOK_ONCE:
        stored = await runtime.look(task_id)
        if stored is not None and stored.error is not None:
            raise stored.error
        if stored is not None and stored.status != PENDING:
            yield stored
        return
    inbox = Inbox(finals_only=False, limit=_UNREAD_STATES)
    runtime.hub.join((runtime.check(task_id),), inbox)
    last: tuple[Any, ...] | None = None
    try:
        while (record := await inbox.next(deadline)) is not None:
            if record.error is not None:
                raise record.error
            late = deadline is not None and runtime.loop.time() >= deadline
            if record.status == PENDING or (late and not record.ready):
                continue  # after the deadline, only a final state among the unread ones still counts
            if (seen := record.appearance()) != last:
                last = seen
                yield record
            if record.ready:
                return
    finally:
        runtime.hub.leave((task_id,), inbox)


async def found(runtime: Runtime, ids: Sequence[str], deadline: float | None) -> Mapping[str, Record] | None:
    """Return what is stored under ``ids``, or ``None`` if the store has not answered by ``deadline``."""
    try:
        async with asyncio.timeout_at(None if deadline == LOOK_ONCE else deadline):
            return await runtime.look_many(ids)
    except TimeoutError:
        return None


async def refuse_ignored(runtime: Runtime, ignored: Collection[str], deadline: float | None) -> None:
    """Raise ``ResultNotStored`` if nothing is stored under one of these ids, whose results are ignored."""
    if not ignored:
        return
    stored = await found(runtime, list(ignored), deadline)
    for task_id in ignored:
        if stored is not None and task_id not in stored:
            raise ResultNotStored(
                f"task {task_id!r}: its result is ignored (task_ignore_result, or ignored=True), and nothing is "
                f"stored in {runtime.store.location}; pass ignored=False if its producer does store it"
            )


async def success_or_failed_ancestor(
    runtime: Runtime, task_id: str, ancestors: Mapping[str, Record | None], deadline: float | None
) -> Record | None:
    """Wait for a task, and return its record if it has succeeded, or that of an ancestor as soon as one has failed.

    Return ``None`` if the task itself has failed, or is not final by ``deadline``. An ancestor that cannot be read, or
    is not stored, counts as not failed. ``ancestors`` maps their ids, the nearest first, to their final records where
    these are known.
    """
    oldest_first = list(ancestors)[::-1]
    for other in oldest_first:
        known = ancestors[other]
        if known is not None and known.status in PROPAGATE_STATES:
            return known
    unknown = [other for other in oldest_first if ancestors[other] is None]
    ids = [runtime.check(other) for other in (*unknown, task_id)]
    async with aclosing(finals(runtime, ids, deadline)) as source:
        async for record in source:
            if record.id == task_id:
                if record.status == SUCCESS:
                    return record
                break
            if record.status in PROPAGATE_STATES:
                return record
    stored = await found(runtime, unknown, deadline) if unknown else None
    known_records = (ancestors[other] or (stored or {}).get(other) for other in ancestors)
    return next((record for record in known_records if record is not None and record.status in PROPAGATE_STATES), None)
