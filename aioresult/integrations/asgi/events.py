"""The events of one task, for any framework that streams bytes."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Final, Self

from aioresult.errors import DecodeError, EncodeError, StreamGap
from aioresult.integrations.asgi.bodies import error_body, json_of, state_body
from aioresult.integrations.asgi.event import Event
from aioresult.integrations.asgi.following import Follower, follower
from aioresult.integrations.asgi.position import END, Position, digest
from aioresult.integrations.asgi.shutdown import SHUTDOWN
from aioresult.record import Record
from aioresult.result import AsyncResult
from aioresult.runtime import Runtime
from aioresult.states import PENDING, PROGRESS
from aioresult.stream import Cursor, Item, items_behind

HEARTBEAT: Final = 15.0
RETRY: Final = 2.0
_LONG: Final = 3600.0
"""Seconds of one wait for an event, where there are no heartbeats."""
_BATCH: Final = 2**16
"""How many bytes of events are made at once."""


def check_times(heartbeat: float | None, retry: float | None) -> None:
    """Refuse numbers of seconds after which nothing can be sent, or events without end."""
    if heartbeat is not None and not 0 < heartbeat < math.inf:
        raise ValueError(f"heartbeat is a positive number of seconds, or None for no comments, not {heartbeat!r}")
    if retry is not None and not 0 <= retry < math.inf:
        raise ValueError(f"retry is a number of seconds, or None to let browsers decide, not {retry!r}")


def events(
    result: AsyncResult[Any],
    last_event_id: str | None = None,
    *,
    heartbeat: float | None = HEARTBEAT,
    retry: float | None = RETRY,
    tracebacks: bool = False,
) -> Events:
    """Return the events of a task, for your own handler. The store is not asked before they are iterated.

    Args:
        result: the task's result.
        last_event_id: the id of the last event that the client has seen: the header ``Last-Event-ID``, or a query
            parameter. The events continue after it.
        heartbeat: seconds without an event after which a comment is sent, so that proxies keep the connection; ``None``
            sends none.
        retry: seconds after which a browser reconnects when the connection is lost; with ``None`` the browser decides.
        tracebacks: whether clients see the tracebacks of failed tasks.

    Raises:
        InvalidCursor: ``last_event_id`` is not the id of an event. Answer 400.
        ValueError: ``heartbeat`` or ``retry`` is no such number of seconds.
    """
    check_times(heartbeat, retry)
    return Events(result, Position.parse(last_event_id), heartbeat=heartbeat, retry=retry, tracebacks=tracebacks)


class Events:
    """An asynchronous iterator of ``Event``, which ends after the event ``end``. Made by ``events``."""

    def __init__(
        self,
        result: AsyncResult[Any],
        position: Position,
        *,
        heartbeat: float | None = HEARTBEAT,
        retry: float | None = RETRY,
        tracebacks: bool = False,
    ) -> None:
        self._result = result
        self._position = position
        self._heartbeat = heartbeat
        self._retry = retry
        self._tracebacks = tracebacks
        self._status = PENDING
        self._source: Follower | None = None
        self._ends = False
        self._iterator: AsyncGenerator[Event, None] | None = None

    @property
    def over(self) -> bool:
        """Whether the client has seen the end, so that there are no events. Answer 204: a browser then stops asking."""
        return self._position.over

    async def check(self) -> Record:
        """Ask the store once whether the events can continue after the client's position, and return the record.

        Raises:
            StreamGap: the stored state, or items after the client's position, are gone. Answer 410: a browser then
                stops asking.
            StoreUnavailable: the store cannot be reached. Answer 503.
        """
        runtime, task_id, position = self._runtime, self._result.id, self._position
        record = await runtime.look(task_id) or Record(id=task_id)
        if position.over:
            return record
        if position.state and record.status == PENDING:
            raise StreamGap(f"task {task_id!r}: states were sent before, but nothing is stored of it any more")
        if position.seq and runtime.store.keeps_streams:
            page = await runtime.batcher.read_stream(Cursor(task_id, position.seq, 0))
            items_behind(task_id, position.seq, page)
        return record

    @property
    def _runtime(self) -> Runtime:
        return self._result.backend._runtime

    # --- iterating ---

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._iterator is None:
            self._iterator = self._one_by_one()
        return await anext(self._iterator)

    async def aclose(self) -> None:
        """End the iteration."""
        if self._iterator is not None:
            await self._iterator.aclose()

    async def _one_by_one(self) -> AsyncGenerator[Event, None]:
        SHUTDOWN.listen(self._end_early)
        try:
            async with aclosing(self.batches()) as batches:
                async for batch in batches:
                    for event in batch:
                        yield event
        finally:
            SHUTDOWN.leave(self._end_early)

    def _end_early(self) -> None:
        """Stop without the event ``end``, because the server stops; browsers reconnect."""
        self._ends = True
        if self._source is not None:
            self._source.wake()

    async def batches(self) -> AsyncGenerator[list[Event], None]:
        """Iterate the same events, in lists of those that are available together, of about 64 KiB at most."""
        if self.over:
            return
        yield [Event(comment="aioresult", retry=None if self._retry is None else round(self._retry * 1000))]
        self._source = source = follower(self._runtime, self._result.id, self._position.seq, self._result.final)
        try:
            while not self._ends and not self._position.over:
                for batch in _batched(await self._next(source)):
                    yield batch
        finally:
            source.close()

    async def _next(self, source: Follower) -> Iterable[Event]:
        """Return the next events; none if the client knows them already."""
        deadline = self._runtime.loop.time() + (self._heartbeat or _LONG)
        try:
            found = await source.step(deadline)
        except DecodeError as exc:  # of one item; the next step continues after it
            return [self._event("unreadable", error_body(exc), seq=source.cursor)]
        except StreamGap as exc:
            return [self._end(Record(id=self._result.id, status=self._status), exc)]
        if isinstance(found, Record):
            return self._state(found)
        if found:
            return map(self._item, found)
        if source.final is not None:
            return [self._end(source.final)]
        return [Event(comment="")] if self._heartbeat and not self._ends else ()

    def _event(self, name: str, data: bytes, *, seq: int | None = None, state: str | None = None) -> Event:
        """Return an event, and note that the client has seen it."""
        old = self._position
        self._position = Position(old.seq if seq is None else seq, old.state if state is None else state)
        return Event(name, data.decode(), str(self._position))

    def _state(self, record: Record) -> list[Event]:
        self._status = record.status
        data = state_body(record, tracebacks=self._tracebacks)
        state = digest(data)
        if state == self._position.state:
            return []
        return [self._event("progress" if record.status == PROGRESS else "state", data, state=state)]

    def _item(self, item: Item) -> Event:
        try:
            return self._event("item", json_of(item.value), seq=item.seq)
        except EncodeError as exc:
            return self._event("unreadable", error_body(exc), seq=item.seq)

    def _end(self, record: Record, gap: StreamGap | None = None) -> Event:
        return self._event("end", state_body(record, tracebacks=self._tracebacks, error=gap), state=END)


def _batched(made: Iterable[Event]) -> Iterator[list[Event]]:
    """Yield ``made`` in lists, each of which ends when it reaches ``_BATCH`` bytes."""
    batch: list[Event] = []
    size = 0
    for event in made:
        batch.append(event)
        size += len(event)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
