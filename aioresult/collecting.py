"""Waiting for many results at once, without a task or a future for each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from aioresult.errors import AioResultError, ResultNotStored
from aioresult.inbox import Inbox
from aioresult.record import Record
from aioresult.runtime import LOOK_ONCE, Runtime, deadline_after
from aioresult.states import PROPAGATE_STATES, SUCCESS

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


async def arrivals(
    results: Sequence[Single], deadline: float | None, *, also_ignored: bool = False
) -> AsyncGenerator[tuple[Single, Record], None]:
    """Yield each of ``results`` once with its final (or unreadable) record, in the order in which they come.

    Ends without the rest at ``deadline``, which comes from ``deadline_after``.

    Raises:
        ResultNotStored: one of them is ignored and not stored, unless ``also_ignored`` says to wait all the same.
    """
    known = [(result, result.final) for result in results if result.final is not None]
    missing: defaultdict[str, list[Single]] = defaultdict(list)
    for result in results:
        if result.final is None:
            missing[result.id].append(result)
    unknown = [result for result in results if result.final is None]
    for result, record in known:
        yield result, record
    if not unknown:
        return
    runtime = common_runtime(unknown)
    for task_id in missing:
        runtime.check(task_id)
    if not also_ignored:
        await refuse_to_wait_in_vain(runtime, [result for result in unknown if result.is_ignored], deadline)
    async with aclosing(_finals(runtime, list(missing), deadline)) as source:
        async for record in source:
            for result in missing.pop(record.id, ()):
                if record.error is None:
                    result.keep(record)
                yield result, record


async def _finals(runtime: Runtime, ids: Sequence[str], deadline: float | None) -> AsyncGenerator[Record, None]:
    if deadline == LOOK_ONCE:
        for found in (await runtime.look_many(ids)).values():
            if found.ended:
                yield found
        return
    inbox = Inbox(finals_only=True)
    outstanding = set(ids)
    runtime.hub.join(ids, inbox)
    try:
        while outstanding and (record := await inbox.next(deadline)) is not None:
            outstanding.discard(record.id)
            yield record
    finally:
        runtime.hub.leave(outstanding, inbox)


async def _found(runtime: Runtime, ids: Sequence[str], deadline: float | None) -> Mapping[str, Record] | None:
    """Return what is stored of ``ids``, or ``None`` where the store has not said so by ``deadline``."""
    try:
        async with asyncio.timeout_at(None if deadline == LOOK_ONCE else deadline):
            return await runtime.look_many(ids)
    except TimeoutError:
        return None


async def refuse_to_wait_in_vain(runtime: Runtime, ignored: Sequence[Single], deadline: float | None) -> None:
    """Raise ``ResultNotStored`` where a result is ignored and nothing at all is stored of it."""
    if ignored:
        stored = await _found(runtime, [result.id for result in ignored], deadline)
        for result in ignored:
            if stored is not None and result.id not in stored:
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
    async with aclosing(arrivals(results, deadline_after(timeout))) as source:
        async for result, record in source:
            records[result] = record
            if stop_at_failure:
                result.value(record)
    if missing := len(set(results)) - len(records):
        raise common_runtime(results).timeout_error(f"{missing} of {len(set(results))} results", timeout)
    return records


async def failed_ancestor(result: Single, deadline: float | None) -> Single | None:
    """Wait for ``result`` and return the ancestor whose failure explains it, as soon as one is known to have failed.

    An ancestor that cannot be read, or is not stored, has not failed as far as anybody can tell.
    """
    ancestors: list[Single] = []
    parent = result.parent
    while parent is not None:
        ancestors.extend(parent.leaves())
        parent = parent.parent
    async with aclosing(arrivals([*reversed(ancestors), result], deadline, also_ignored=True)) as source:
        async for arrived, record in source:
            if arrived is result:
                if record.status == SUCCESS:
                    return None
                break
            if record.status in PROPAGATE_STATES:
                return arrived
    unknown = [ancestor for ancestor in ancestors if ancestor.final is None]
    found = unknown and await _found(common_runtime(unknown), [ancestor.id for ancestor in unknown], deadline)
    for ancestor in ancestors:
        record = ancestor.final or (found and found.get(ancestor.id)) or Record(id=ancestor.id)
        if record.status in PROPAGATE_STATES:
            ancestor.keep(record)
            return ancestor
    return None
