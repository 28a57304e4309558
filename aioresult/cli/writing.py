"""The commands that change what is stored: store, revoke, forget, purge."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import msgspec
import typer

from aioresult import states
from aioresult.cli.exits import Exit
from aioresult.cli.output import print_error, print_line, to_json
from aioresult.cli.session import Id, Ids, Session


def store(
    session: Session,
    task_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the task.", show_default=False)],
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="SUCCESS, FAILURE, PROGRESS, ...")
    ] = states.SUCCESS,
    result: Annotated[
        str, typer.Option("--result", metavar="JSON", help="The value as JSON; - reads it from standard input.")
    ] = "null",
    traceback: Annotated[
        str | None, typer.Option("--traceback", metavar="TEXT", show_default=False, help="The traceback of a failure.")
    ] = None,
) -> Coroutine[Any, Any, Exit]:
    """Store a state of a task and wake those who wait for it.

    For FAILURE, RETRY and REVOKED the result is a message, or an object with exc_type and exc_message.
    """
    try:
        state.encode()
        states.check_state(state)
    except UnicodeError as exc:
        raise typer.BadParameter(f"the state is not UTF-8 ({exc})", param_hint="--state") from exc
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--state") from exc
    return _store(session, task_id, _outcome(state, _parsed(result)), state, traceback)


async def _store(session: Session, task_id: str, value: Any, state: str, traceback: str | None) -> Exit:
    async with session.backend() as backend:
        written = await backend.store_result(task_id, value, state, traceback)
        if session.json:
            print_line(to_json({"id": task_id, "status": state, "written": written}))
        elif written:
            print_line(f"{task_id} {state}")
        if written:
            return Exit.OK
        stored = await backend.fetch(task_id)
        print_error(f"task {task_id!r}: {state} was not stored, because the task has ended already, as {stored.status}")
        return Exit.REFUSED


async def revoke(
    session: Session,
    task_id: Id,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", show_default=False, help="What those who wait are told.")
    ] = None,
) -> Exit:
    """Revoke a task: those who wait for it are told, and a TaskRunner that runs it stops it.

    Workers of Celery are told by: celery control revoke ID.
    """
    async with session.backend() as backend:
        revoked = await backend.AsyncResult(task_id).revoke(reason)
        stored = states.REVOKED if revoked else (await backend.fetch(task_id)).status
        if session.json:
            print_line(to_json({"id": task_id, "status": stored, "revoked": revoked}))
        elif revoked:
            print_line(f"{task_id} {stored}")
        if revoked:
            return Exit.OK
        print_error(f"task {task_id!r} was not revoked, since it is final already: {stored}")
        return Exit.REFUSED


async def forget(session: Session, ids: Ids) -> Exit:
    """Delete the results of tasks."""
    async with session.backend() as backend:
        for task_id in dict.fromkeys(ids):
            await backend.forget(task_id)
            print_line(to_json({"id": task_id, "forgotten": True}) if session.json else f"{task_id} forgotten")
        return Exit.OK


async def purge(session: Session) -> Exit:
    """Delete expired results, where the store does not expire them by itself."""
    async with session.backend() as backend:
        count = await backend.purge()
        print_line(to_json({"purged": count}) if session.json else f"{count} expired results deleted")
        return Exit.OK


def _parsed(result: str) -> Any:
    try:
        return msgspec.json.decode(_standard_input() if result == "-" else result)
    except UnicodeError as exc:
        raise typer.BadParameter(f"the result is not UTF-8, as JSON has to be ({exc})", param_hint="--result") from exc
    except msgspec.DecodeError as exc:
        raise typer.BadParameter(
            f"the result is not JSON ({exc}); text needs quotes of its own: '\"text\"'", param_hint="--result"
        ) from exc


def _standard_input() -> str:
    """Return the whole standard input, decoded as JSON requires, whatever the locale."""
    if sys.stdin is None:
        raise typer.BadParameter("standard input is closed", param_hint="--result")
    return sys.stdin.buffer.read().decode()


def _outcome(state: str, value: Any) -> Any:
    """Return what is stored for ``value``: the result of a failure is an exception."""
    if state not in states.EXCEPTION_STATES or (isinstance(value, dict) and "exc_type" in value):
        return value
    return Exception() if value is None else Exception(value)
