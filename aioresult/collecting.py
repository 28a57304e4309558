"""Waiting for many results at once, without a task or a future for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from aioresult.errors import AioResultError, ResultNotStored
from aioresult.inbox import Inbox
from aioresult.record import Record
from aioresult.runtime import Runtime
from aioresult.states import PROPAGATE_STATES

if TYPE_CHECKING:
    from aioresult.groups import Result
    from aioresult.result import AsyncResult

    Single = AsyncResult[Any]


def leaves(results: Iterable[Result]) -> list[Single]:
    """Return the single results in ``results`` and in the groups among them, in order."""
    flat: list[Single] = []
    for result in results:
        flat.extend(result.leaves())
    return flat


def common_runtime(results: Sequence[Single]) -> Runtime:
    """Return what the one backend of ``results`` keeps for the running loop.

    Raises:
        AioResultError: they are of several backends.
    """
    backend = results[0].backend
    if any(result.backend is not backend for result in results):
        raise AioResultError(
            "results of different backends cannot be awaited in one call; make one call for each backend and "
            "combine them with asyncio.gather"
        )
    return backend.runtime


async def current_records(results: Sequence[Single]) -> list[Record]:
    """Return the present record of each of ``results``, in one read.

    Raises:
        DecodeError: one of them cannot be read.
    """
    unknown = [result for result in results if result.final is None]
    found = await common_runtime(unknown).look_many([result.id for result in unknown]) if unknown else {}
    return [result.final or result.keep(found.get(result.id) or Record(id=result.id)) for result in results]


async def arrivals(results: Sequence[Single], timeout: float | None) -> AsyncGenerator[tuple[Single, Record], None]:
    """Yield each of ``results`` once with its final (or unreadable) record, in the order in which they come.

    Ends without the rest once ``timeout`` seconds have passed; 0 looks once.

    Raises:
        ResultNotStored: one of them is ignored and not stored.
    """
    missing: defaultdict[str, list[Single]] = defaultdict(list)
    for result in results:
        if result.final is None:
            missing[result.id].append(result)
    source = _finals(list(missing), [result for result in results if result.final is None], timeout)
    async with aclosing(source):
        for result in results:
            if result.final is not None and result.id not in missing:
                yield result, result.final
        async for record in source:
            for result in missing.pop(record.id, ()):
                if record.error is None:
                    result.keep(record)
                yield result, record


async def _finals(ids: Sequence[str], results: Sequence[Single], timeout: float | None) -> AsyncGenerator[Record, None]:
    if not ids:
        return
    runtime = common_runtime(results)
    for task_id in ids:
        runtime.check(task_id)
    await refuse_to_wait_in_vain(runtime, [result for result in results if result.is_ignored])
    if timeout is not None and not timeout > 0:
        for found in (await runtime.look_many(ids)).values():
            if found.ended:
                yield found
        return
    deadline = None if timeout is None else runtime.loop.time() + timeout
    inbox = Inbox(finals_only=True)
    outstanding = set(ids)
    runtime.hub.join(ids, inbox)
    try:
        while outstanding and (record := await inbox.next(deadline)) is not None:
            outstanding.discard(record.id)
            yield record
    finally:
        runtime.hub.leave(outstanding, inbox)


async def refuse_to_wait_in_vain(runtime: Runtime, ignored: Sequence[Single]) -> None:
    """Raise ``ResultNotStored`` where a result is ignored and nothing at all is stored of it."""
    if ignored:
        stored = await runtime.look_many([result.id for result in ignored])
        for result in ignored:
            if result.id not in stored:
                raise ResultNotStored(
                    f"task {result.id!r}: its result is ignored (task_ignore_result, or ignored=True), and nothing is "
                    f"stored in {runtime.store.location}; pass ignored=False if its producer does store it"
                )


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
    async with aclosing(arrivals(results, timeout)) as source:
        async for result, record in source:
            records[result] = record
            if stop_at_failure:
                result.value(record)
    if missing := len(set(results)) - len(records):
        raise common_runtime(results).timeout_error(f"{missing} of {len(set(results))} results", timeout)
    return records


async def failed_ancestor(result: Single, timeout: float | None) -> Single | None:
    """Wait for ``result`` and return the ancestor whose failure explains it, as soon as one is known to have failed."""
    ancestors: list[Single] = []
    parent = result.parent
    while parent is not None:
        ancestors.extend(parent.leaves())
        parent = parent.parent
    async with aclosing(arrivals([*reversed(ancestors), result], timeout)) as source:
        async for arrived, record in source:
            if arrived is result:
                break
            if record.status in PROPAGATE_STATES:
                return arrived
    for ancestor, record in zip(ancestors, await current_records(ancestors), strict=True):
        if record.status in PROPAGATE_STATES:
            return ancestor
    return None
