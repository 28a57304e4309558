"""Looking: ids whose waiters are owed a look at the store are read in ever new batches.

As many batches are under way at once as the store has lanes: while one is read there, another is delivered here. Within
a lane one follows the other, so that what arrives meanwhile is read together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from typing import Protocol

from aioresult.backoff import Backoff
from aioresult.batching import Batcher, lane_of, owned_task
from aioresult.errors import StoreUnavailable
from aioresult.record import Record


class Patron(Protocol):
    """Whoever wants to know what there is.

    Attributes:
        outage: why the store could not be reached the last time, or ``None`` where it could.
        closed: whether nothing is to be looked at any more.
    """

    outage: StoreUnavailable | None
    closed: bool

    def deliver(self, task_id: str, record: Record) -> None:
        """Take what is stored of an id, once for each look that finds something."""

    def looked(self, ids: set[str]) -> None:
        """Take note that these have been looked at, or cannot be before the store is back."""

    def fail(self, ids: set[str], exc: Exception) -> None:
        """Take the error for which these cannot be looked at."""


class _Lane:
    """Some of the ids; one batch of them is under way at a time."""

    __slots__ = ("ids", "overtaken", "task")

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.overtaken: set[str] = set()
        """Ids of which the feed has told a state since the batch under way began."""
        self.task: asyncio.Task[None] | None = None


class Looker:
    """Reads ids, and goes on trying while a store that has answered before is away.

    Args:
        batcher: reads.
        wanted: the ids that somebody still waits for; others are not read.
        patron: is told.
        lanes: how many batches may be under way at once.
    """

    def __init__(self, batcher: Batcher, wanted: Container[str], patron: Patron, lanes: int) -> None:
        self._batcher = batcher
        self._wanted = wanted
        self._patron = patron
        self._lanes = [_Lane() for _ in range(lanes)]

    def look_at(self, task_id: str) -> None:
        """Read ``task_id`` soon."""
        lane = self._lane(task_id)
        lane.ids.add(task_id)
        if lane.task is None or lane.task.done():
            self._begin(lane)

    def _begin(self, lane: _Lane) -> None:
        lane.task = owned_task(self._look(lane), "aioresult look")

    def look_at_all(self, ids: Iterable[str]) -> None:
        """Read ``ids`` soon."""
        for task_id in ids:
            self.look_at(task_id)

    def overtake(self, task_id: str) -> None:
        """Take note that the feed has told a state of ``task_id``: one that is being read may be older."""
        lane = self._lane(task_id)
        if lane.task is not None:
            lane.overtaken.add(task_id)

    def _lane(self, task_id: str) -> _Lane:
        return self._lanes[lane_of(task_id, len(self._lanes))]

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [lane.task for lane in self._lanes if lane.task is not None and not lane.task.done()]

    async def _look(self, lane: _Lane) -> None:
        backoff = Backoff()
        asked: set[str] = set()
        try:
            while lane.ids:
                asked, lane.ids = lane.ids, set()
                try:
                    await self._look_once(lane, asked)
                except StoreUnavailable as exc:
                    if not self._batcher.reached:
                        raise
                    self._patron.outage = exc
                    self._patron.looked(asked)
                    await asyncio.sleep(backoff.next())
                    lane.ids |= asked
                    continue
                self._patron.looked(asked)
        except asyncio.CancelledError:
            lane.ids |= asked
            raise
        except Exception as exc:  # noqa: BLE001  (handed to those whom it concerns)
            asked, lane.ids = asked | lane.ids, set()
            self._patron.fail(asked, exc)
        finally:
            lane.task = None
            lane.overtaken.clear()
            if lane.ids and not self._patron.closed:  # somebody has cancelled all tasks, and some waiters go on
                self._begin(lane)

    async def _look_once(self, lane: _Lane, asked: set[str]) -> None:
        wanted = [task_id for task_id in asked if task_id in self._wanted]
        if not wanted:
            return
        lane.overtaken.clear()
        found = await self._batcher.get_many(wanted)
        self._patron.outage = None
        for task_id in wanted:  # the batch may have had others in it, whose lane knows what has overtaken them
            record = found.get(task_id)
            if record is not None and (record.ended or task_id not in lane.overtaken):
                self._patron.deliver(task_id, record)
