"""Celery's callbacks during a wait: ``on_message`` for each state, ``on_interval`` between states."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from datetime import UTC
from itertools import chain
from typing import Any, Final, TypeAlias

import msgspec

from aioresult.codec.records import Layout
from aioresult.collecting import Single
from aioresult.default import common_runtime
from aioresult.errors import ResultTimeout
from aioresult.record import Record
from aioresult.runtime import check_timeout, deadline_after
from aioresult.states import PROPAGATE_STATES
from aioresult.sync.portal import iterate
from aioresult.sync.records import records
from aioresult.waiting import refuse_ignored

OnValue: TypeAlias = Callable[[str, Any], object]
"""Celery's ``callback``: called with the task's id and its value."""
OnMessage: TypeAlias = Callable[[dict[str, Any]], object]
"""Called with the ``meta`` dictionary of one state, see ``meta``."""
OnInterval: TypeAlias = Callable[[], object]

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
            results: the results whose states are passed to the callbacks.
            timeout: seconds for all together; 0 looks once.
            ancestors: results whose failure may end the wait, too.
            stop_at_failure: end at the first failure of any of them.

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
        if self.on_interval is not None:
            self.on_interval()
        told = {id(result) for result in results}
        source = iterate(
            lambda: _states(results, ancestors, timeout, finals_only=self.on_message is None),
            interval=self.interval,
            on_interval=self.on_interval,
        )
        for result, record in chain.from_iterable(source):
            if self.on_message is not None and id(result) in told and record.error is None:
                self.on_message(meta(record))
            if record.ended:
                yield result


async def _states(
    results: Sequence[Single], ancestors: Sequence[Single], timeout: float | None, *, finals_only: bool
) -> AsyncIterator[list[tuple[Single, Record]]]:
    """Yield the states of ``results`` and ``ancestors`` as they come, until ``results`` are final.

    Raises:
        ResultTimeout: not all of ``results`` were final in time; ``ancestors`` do not count.
        ResultNotStored: one of ``results`` is ignored and not stored.
    """
    check_timeout(timeout)
    every = [*ancestors, *results]
    yield [(result, final) for result in every if (final := result.final) is not None]
    unfinished = {id(result) for result in results if result.final is None}
    if not unfinished:
        return
    unknown = [result for result in every if result.final is None]
    runtime = common_runtime(unknown)
    ignored = [result.id for result in unknown if id(result) in unfinished and result._is_ignored]
    await refuse_ignored(runtime, ignored, deadline_after(timeout))
    by_id: defaultdict[str, list[Single]] = defaultdict(list)
    for result in unknown:
        by_id[result.id].append(result)
    source = records(unknown[0].backend, list(by_id), timeout, finals_only=finals_only)
    with suppress(ResultTimeout):
        async with aclosing(source):
            async for batch in source:
                news = [(result, record) for record in batch for result in by_id[record.id]]
                for result, record in news:
                    if record.error is None:
                        result._keep(record)
                    if record.ended:
                        unfinished.discard(id(result))
                yield news
                if not unfinished:
                    return
    raise runtime.timeout_error([result.id for result in results], len(unfinished), timeout)
