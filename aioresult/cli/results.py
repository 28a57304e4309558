"""The commands that read and wait: get, wait, watch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Annotated, Any

import typer

from aioresult.backend import Backend
from aioresult.cli import watching
from aioresult.cli.exits import Exit, worst
from aioresult.cli.output import as_json, print_error, print_failure, print_line, summary, value_text
from aioresult.cli.session import Ids, Session, Timeout
from aioresult.cli.snapshot import snapshot
from aioresult.collecting import arrivals
from aioresult.record import Record
from aioresult.result import AsyncResult
from aioresult.runtime import deadline_after
from aioresult.states import SUCCESS

Single = AsyncResult[Any]


async def get(session: Session, ids: Ids, timeout: Timeout = None) -> Exit:
    """Wait for tasks and print their values.

    The value of a single task is printed alone: text as it is, everything else as JSON.
    """
    async with session.backend() as backend:
        async with aclosing(_finals(backend, ids, timeout)) as finals:
            found = {result: record async for result, record in finals}
        records = [found[result] for result in _results(backend, ids)]
        codes: list[Exit] = []
        for record in records:
            if session.json:
                print_line(as_json(record))
            elif len(records) > 1:
                print_line(f"{record.id} {record.status} {summary(record)}".rstrip())
            elif record.status == SUCCESS:
                print_line(value_text(record.result))
            codes.append(_explain(record, timeout, session.verbose))
        return worst(codes)


async def wait(
    session: Session,
    ids: Ids,
    timeout: Timeout = None,
    first: Annotated[bool, typer.Option("--any", help="Return when one of them is final.")] = False,
) -> Exit:
    """Wait for tasks and print each one's id and state as it becomes final."""
    codes: list[Exit] = []
    async with session.backend() as backend, aclosing(_finals(backend, ids, timeout)) as finals:
        async for _, record in finals:
            if session.json:
                print_line(as_json(record))
            elif record.ready:
                print_line(f"{record.id} {record.status}")
            codes.append(_explain(record, timeout, session.verbose))
            if first:
                break
    return worst(codes)


async def watch(session: Session, ids: Ids, timeout: Timeout = None) -> Exit:
    """Show the states and the progress of tasks as they change, until all are final."""
    async with session.backend() as backend:
        records = await watching.watch(_results(backend, ids), timeout, json=session.json)
        return worst([_explain(record, timeout, session.verbose) for record in records])


def _results(backend: Backend, ids: Iterable[str]) -> list[Single]:
    return [backend.AsyncResult(task_id) for task_id in dict.fromkeys(ids)]


async def _finals(
    backend: Backend, ids: Iterable[str], timeout: float | None
) -> AsyncGenerator[tuple[Single, Record], None]:
    """Yield each result with its final record as it arrives; at the end the others with their present record."""
    results = _results(backend, ids)
    late = dict.fromkeys(results)
    async with aclosing(arrivals(results, deadline_after(timeout))) as source:
        async for result, record in source:
            del late[result]
            yield result, record
    if late:
        found = await snapshot(backend, [result.id for result in late])
        for result in late:
            yield result, found.get(result.id) or Record(id=result.id)


def _explain(record: Record, timeout: float | None, verbose: int) -> Exit:
    """Print to standard error why ``record`` is not a success, and return the exit code for that."""
    if record.error is not None:
        print_error(str(record.error))
        return Exit.UNREADABLE
    if not record.ready:
        print_error(f"task {record.id!r} was not final within {timeout or 0:g} s; its state is {record.status}")
        return Exit.TIMEOUT
    if not record.successful:
        print_failure(record, with_traceback=verbose > 0)
        return Exit.FAILED
    return Exit.OK
