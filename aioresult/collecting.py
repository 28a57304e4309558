"""Waiting for many results at once, without a task or a future for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from aioresult.default import Result, check_result, common_runtime
from aioresult.record import Record
from aioresult.result import AsyncResult
from aioresult.runtime import check_timeout, deadline_after
from aioresult.waiting import finals, refuse_ignored

Single = AsyncResult[Any]


def leaves(results: Iterable[Result]) -> list[Single]:
    """Return the single results in ``results`` and in the groups among them, in order.

    Raises:
        TypeError: one of them is no result.
    """
    flat: list[Single] = []
    for result in results:
        check_result(result)
        flat.extend(result.leaves())
    return flat


async def current_records(results: Sequence[Single]) -> list[Record]:
    """Return the present record of each of ``results``, in one read."""
    unknown = [result for result in results if result.final is None]
    found = await common_runtime(unknown).look_many([result.id for result in unknown]) if unknown else {}
    return [result.final or result._keep(found.get(result.id) or Record(id=result.id)) for result in results]


async def arrivals(results: Sequence[Single], deadline: float | None) -> AsyncGenerator[tuple[Single, Record], None]:
    """Yield each of ``results`` once with its final (or unreadable) record, in the order in which they come.

    Ends without the rest at ``deadline``, which comes from ``deadline_after``.
    """
    known = [(result, result.final) for result in results if result.final is not None]
    unknown = [result for result in results if result.final is None]
    missing: defaultdict[str, list[Single]] = defaultdict(list)
    for result in unknown:
        missing[result.id].append(result)
    for result, record in known:
        yield result, record
    if not unknown:
        return
    runtime = common_runtime(unknown)
    for task_id in missing:
        runtime.check(task_id)
    await refuse_ignored(runtime, [result.id for result in unknown if result._is_ignored], deadline)
    async with aclosing(finals(runtime, list(missing), deadline)) as source:
        async for record in source:
            for result in missing.pop(record.id, ()):
                if record.error is None:
                    result._keep(record)
                yield result, record


async def final_records(
    results: Sequence[Single], timeout: float | None, *, stop_at_failure: bool
) -> dict[Single, Record]:
    """Return the final record of each of ``results``, unreadable ones included.

    Raises:
        ResultTimeout: not all were final in time.
        Exception: with ``stop_at_failure``, the failure of the first one that failed.
    """
    records: dict[Single, Record] = {}
    if not results:
        return records
    async with aclosing(arrivals(results, deadline_after(timeout))) as source:
        async for result, record in source:
            records[result] = record
            if stop_at_failure:
                result._value(record)
    ids = [result.id for result in set(results)]
    if missing := len(ids) - len(records):
        raise common_runtime(results).timeout_error(ids, missing, timeout)
    return records


async def as_completed(results: Iterable[Result], *, timeout: float | None = None) -> AsyncIterator[AsyncResult[Any]]:
    """Iterate ``results``, each once, as they become final; groups among them give their members.

    Raises:
        ResultTimeout: not all were final in time; those that were have been yielded.
    """
    check_timeout(timeout)
    singles = list({id(result): result for result in leaves(results)}.values())
    seen = 0
    async with aclosing(arrivals(singles, deadline_after(timeout))) as source:
        async for result, _ in source:
            seen += 1
            yield result
    if missing := len(singles) - seen:
        raise common_runtime(singles).timeout_error([result.id for result in singles], missing, timeout)
