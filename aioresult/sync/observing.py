"""Celery's callbacks during a wait: ``on_message`` for each state, ``on_interval`` while no state comes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC
from typing import Any, Final, TypeAlias

import msgspec

from aioresult.background import owned_task
from aioresult.codec.records import Layout
from aioresult.collecting import as_completed
from aioresult.default import common_runtime
from aioresult.errors import DecodeError, ResultTimeout
from aioresult.record import Record
from aioresult.result import AsyncResult
from aioresult.runtime import deadline_after
from aioresult.states import PROPAGATE_STATES
from aioresult.sync.portal import iterate
from aioresult.waiting import refuse_ignored

Single: TypeAlias = AsyncResult[Any]
OnValue: TypeAlias = Callable[[str, Any], object]
"""Celery's ``callback``: takes the task's id and its value."""
OnMessage: TypeAlias = Callable[[dict[str, Any]], object]
"""Takes the ``meta`` dictionary of one state, see ``meta``."""
OnInterval: TypeAlias = Callable[[], object]
News: TypeAlias = "asyncio.Queue[tuple[Single, Record] | asyncio.Task[None]]"
"""States, and the tasks that read them, once they are done."""

_LAYOUT: Final = Layout(UTC, True)


def meta(record: Record) -> dict[str, Any]:
    """Return a record as Celery's ``meta`` dictionary: task_id, status, result, traceback, date_done as text, ..."""
    return _LAYOUT.meta(record)


def refuse_within_a_task(disable_sync_subtasks: bool) -> None:
    """Raise ``RuntimeError``, as Celery does, in a process that is executing one of Celery's tasks."""
    celery = sys.modules.get("celery._state")
    if disable_sync_subtasks and celery is not None and celery.task_join_will_block():
        raise RuntimeError(
            "waiting for a result within a Celery task may block for ever, for lack of a free worker process: use a "
            "chain or a chord, or pass disable_sync_subtasks=False"
        )


class Observer(msgspec.Struct, frozen=True):
    """The callbacks to call while waiting, in the thread that waits.

    Attributes:
        on_message: called with Celery's ``meta`` for each state.
        on_interval: called at once and then every ``interval`` seconds.
        interval: in seconds.
    """

    on_message: OnMessage | None
    on_interval: OnInterval | None
    interval: float

    def wait(
        self,
        results: Sequence[Single],
        timeout: float | None,
        *,
        ancestors: Sequence[Single] = (),
        stop_at_failure: bool = False,
    ) -> None:
        """Wait for ``results``, if there is a callback; they keep their final records.

        Args:
            results: whose states are told.
            timeout: seconds for all together; 0 looks once.
            ancestors: results that may fail in their stead.
            stop_at_failure: end at the first failure of any.

        Raises:
            ResultTimeout: not all were final in time.
        """
        if self.on_message is None and self.on_interval is None:
            return
        outstanding = {id(result) for result in results}
        for arrived in self.arrivals(results, timeout, ancestors=ancestors):
            outstanding.discard(id(arrived))
            failed = arrived.final is not None and arrived.final.status in PROPAGATE_STATES
            if not outstanding or (failed and stop_at_failure):
                return

    def arrivals(
        self, results: Sequence[Single], timeout: float | None, *, ancestors: Sequence[Single] = ()
    ) -> Iterator[Single]:
        """Iterate ``results`` and ``ancestors`` as they become final (or unreadable). Callbacks get only ``results``.

        Raises:
            ResultTimeout: not all of ``results`` were final in time.
        """
        if self.on_message is None and self.on_interval is None:
            yield from iterate(lambda: as_completed([*ancestors, *results], timeout=timeout))
            return
        if self.on_interval is not None:
            self.on_interval()
        told = {id(result) for result in results}
        source = iterate(
            lambda: _states(results, ancestors, timeout), interval=self.interval, on_interval=self.on_interval
        )
        for result, record in source:
            if self.on_message is not None and id(result) in told and record.error is None:
                self.on_message(meta(record))
            if record.ended:
                yield result


async def _states(
    results: Sequence[Single], ancestors: Sequence[Single], timeout: float | None
) -> AsyncIterator[tuple[Single, Record]]:
    """Yield each state of ``results`` and ``ancestors``, in the order in which they come, until all are final.

    Raises:
        ResultTimeout: not all of ``results`` were final in time; says nothing of ``ancestors``, which nobody asked for.
        ResultNotStored: one of ``results`` is ignored and not stored.
    """
    if not results:
        return
    runtime = common_runtime([*results, *ancestors])
    ignored = [result.id for result in results if result._is_ignored]
    await refuse_ignored(runtime, ignored, deadline_after(timeout))
    unfinished = {id(result) for result in results}
    async with aclosing(_news([*ancestors, *results], timeout)) as source:
        async for result, record in source:
            if record.ended:
                unfinished.discard(id(result))
            yield result, record
    if unfinished:
        raise runtime.timeout_error([result.id for result in results], len(unfinished), timeout)


async def _news(results: Sequence[Single], timeout: float | None) -> AsyncGenerator[tuple[Single, Record], None]:
    """Yield each state of ``results`` until all are final, or ``timeout`` seconds have passed."""
    news: News = asyncio.Queue()
    tellers = [owned_task(_tell(result, timeout, news), f"aioresult states of {result.id:.60}") for result in results]
    for teller in tellers:
        teller.add_done_callback(news.put_nowait)
    left = len(tellers)
    try:
        while left:
            item = await news.get()
            if isinstance(item, asyncio.Task):
                item.result()
                left -= 1
            else:
                yield item
    finally:
        for teller in tellers:
            teller.cancel()
        await asyncio.gather(*tellers, return_exceptions=True)


async def _tell(result: Single, timeout: float | None, news: News) -> None:
    try:
        async for record in result.updates(timeout):
            news.put_nowait((result, record))
    except ResultTimeout:
        pass  # all time out together: what is missing is counted when all have ended
    except DecodeError as exc:  # concerns this result only
        news.put_nowait((result, Record.undecodable(result.id, exc)))
