"""Looking: reading the present records of ids that are waited for, in batches.

Each of the store's lanes has one batch at a time. While the store reads one batch, another one is delivered here. Ids
that arrive while a batch is in flight are read together in the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from aioresult.background import Background
from aioresult.backoff import Backoff
from aioresult.batching import Batcher
from aioresult.errors import StoreUnavailable
from aioresult.lanes import lane_of
from aioresult.partly import PartlyUnavailable
from aioresult.record import Record


class Receiver(Protocol):
    """Receives what was read. The hub implements and documents this."""

    outage: StoreUnavailable | None
    closed: bool

    def deliver(self, task_id: str, record: Record) -> None: ...
    def looked(self, ids: set[str]) -> None: ...
    def fail(self, ids: set[str], exc: Exception) -> None: ...


class Looker:
    """Reads ids, as long as they are ``wanted``. While a store that has answered before is unavailable, it retries."""

    def __init__(self, batcher: Batcher, wanted: Container[str], receiver: Receiver, lanes: int) -> None:
        self._lanes = [_Lane(batcher, wanted, receiver) for _ in range(lanes)]

    def look_at(self, task_id: str) -> None:
        """Read ``task_id`` soon."""
        self._lane(task_id).look_at(task_id)

    def overtake(self, task_id: str) -> None:
        """Note that the feed has delivered a state of ``task_id``: a state that is being read may be older."""
        self._lane(task_id).overtaken.add(task_id)

    def _lane(self, task_id: str) -> _Lane:
        return self._lanes[lane_of(task_id, len(self._lanes))]

    @property
    def running(self) -> bool:
        """Whether ids are being read."""
        return any(lane.looking.running for lane in self._lanes)

    async def cancel(self) -> None:
        """End the reads in flight."""
        for lane in self._lanes:
            await lane.looking.cancel()


class _Lane:
    """Some of the ids; one batch of them is in flight at a time."""

    __slots__ = ("_batcher", "_ids", "_receiver", "_wanted", "looking", "overtaken")

    def __init__(self, batcher: Batcher, wanted: Container[str], receiver: Receiver) -> None:
        self._batcher = batcher
        self._wanted = wanted
        self._receiver = receiver
        self._ids: set[str] = set()
        self.overtaken: set[str] = set()
        """Ids of which the feed has delivered a state since the batch in flight began."""
        self.looking = Background(self._look, "aioresult look", pending=lambda: self._ids and not receiver.closed)

    def look_at(self, task_id: str) -> None:
        self._ids.add(task_id)
        self.looking.begin()

    async def _look(self) -> None:
        backoff = Backoff()
        ids: set[str] = set()
        try:
            while self._ids:
                ids, self._ids = self._ids, set()
                try:
                    await self._look_once(ids)
                except StoreUnavailable as exc:
                    if not self._batcher.reached:
                        raise
                    self._receiver.outage = exc
                    self._receiver.looked(ids)
                    await asyncio.sleep(backoff.next())
                    self._ids |= ids
                    continue
                self._receiver.looked(ids)
        except asyncio.CancelledError:
            self._ids |= ids
            raise
        except Exception as exc:  # noqa: BLE001  (given to the waiters)
            ids, self._ids = ids | self._ids, set()
            self._receiver.fail(ids, exc)

    async def _look_once(self, ids: set[str]) -> None:
        wanted = [task_id for task_id in ids if task_id in self._wanted]
        self.overtaken.clear()
        if not wanted:
            return
        try:
            found = await self._batcher.get_many(wanted)
        except PartlyUnavailable as exc:
            self._deliver(wanted, exc.outcomes)
            raise
        self._receiver.outage = None
        self._deliver(wanted, found)

    def _deliver(self, wanted: Sequence[str], found: Mapping[str, Record | None]) -> None:
        for task_id in wanted:  # what was found may also contain ids of other callers
            record = found.get(task_id)
            if record is not None and (record.ended or task_id not in self.overtaken):
                self._receiver.deliver(task_id, record)
