"""Looking: ids whose waiters are owed a look at the store are read in ever new batches.

As many batches are under way at once as the store has lanes: while one is read there, another is delivered here. Within
a lane one follows the other, so that what arrives meanwhile is read together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from aioresult.abc import PartlyUnavailable
from aioresult.background import Background
from aioresult.backoff import Backoff
from aioresult.batching import Batcher
from aioresult.errors import StoreUnavailable
from aioresult.lanes import lane_of
from aioresult.record import Record


class Asker(Protocol):
    """Wants to know what is stored: the hub.

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


class Looker:
    """Reads ids, and goes on trying while a store that has answered before is away.

    Args:
        batcher: reads.
        wanted: the ids that somebody still waits for; others are not read.
        asker: is told.
        lanes: how many batches may be under way at once.
    """

    def __init__(self, batcher: Batcher, wanted: Container[str], asker: Asker, lanes: int) -> None:
        self._lanes = [_Lane(batcher, wanted, asker) for _ in range(lanes)]

    def look_at(self, task_id: str) -> None:
        """Read ``task_id`` soon."""
        self._lane(task_id).look_at(task_id)

    def overtake(self, task_id: str) -> None:
        """Take note that the feed has told a state of ``task_id``: one that is being read may be older."""
        self._lane(task_id).overtaken.add(task_id)

    def _lane(self, task_id: str) -> _Lane:
        return self._lanes[lane_of(task_id, len(self._lanes))]

    @property
    def running(self) -> bool:
        """Whether ids are being read."""
        return any(lane.looking.running for lane in self._lanes)

    async def cancel(self) -> None:
        """End what is under way."""
        for lane in self._lanes:
            await lane.looking.cancel()


class _Lane:
    """Some of the ids; one batch of them is under way at a time."""

    __slots__ = ("_asker", "_batcher", "_ids", "_wanted", "looking", "overtaken")

    def __init__(self, batcher: Batcher, wanted: Container[str], asker: Asker) -> None:
        self._batcher = batcher
        self._wanted = wanted
        self._asker = asker
        self._ids: set[str] = set()
        self.overtaken: set[str] = set()
        """Ids of which the feed has told a state since the batch under way began."""
        self.looking = Background(self._look, "aioresult look", pending=lambda: self._ids and not asker.closed)

    def look_at(self, task_id: str) -> None:
        self._ids.add(task_id)
        self.looking.begin()

    async def _look(self) -> None:
        backoff = Backoff()
        asked: set[str] = set()
        try:
            while self._ids:
                asked, self._ids = self._ids, set()
                try:
                    await self._look_once(asked)
                except StoreUnavailable as exc:
                    if not self._batcher.reached:
                        raise
                    self._asker.outage = exc
                    self._asker.looked(asked)
                    await asyncio.sleep(backoff.next())
                    self._ids |= asked
                    continue
                self._asker.looked(asked)
        except asyncio.CancelledError:
            self._ids |= asked
            raise
        except Exception as exc:  # noqa: BLE001  (handed to those whom it concerns)
            asked, self._ids = asked | self._ids, set()
            self._asker.fail(asked, exc)

    async def _look_once(self, asked: set[str]) -> None:
        wanted = [task_id for task_id in asked if task_id in self._wanted]
        self.overtaken.clear()
        if not wanted:
            return
        try:
            found = await self._batcher.get_many(wanted)
        except PartlyUnavailable as exc:
            self._deliver(wanted, exc.outcomes)
            raise
        self._asker.outage = None
        self._deliver(wanted, found)

    def _deliver(self, wanted: Sequence[str], found: Mapping[str, Record | None]) -> None:
        for task_id in wanted:  # the batch may have had others in it, whose lane knows what has overtaken them
            record = found.get(task_id)
            if record is not None and (record.ended or task_id not in self.overtaken):
                self._asker.deliver(task_id, record)
