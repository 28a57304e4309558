"""The command that prints a stream: tail."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from aioresult.cli.exits import Exit
from aioresult.cli.output import object_to_json, print_failure, print_line, value_text
from aioresult.cli.session import Id, Session, Timeout


async def tail(
    session: Session,
    task_id: Id,
    after: Annotated[
        int, typer.Option(metavar="NUMBER", help="Begin after the item of this number; 0 begins with the first.", min=0)
    ] = 0,
    timeout: Timeout = None,
) -> Exit:
    """Print the items of a task's stream, as they come, until the task is final.

    Text is printed as it is, one piece after the other; everything else as JSON, on a line of its own.
    """
    async with session.backend() as backend:
        result = backend.AsyncResult(task_id)
        text = _Text()
        try:
            async for item in result.stream(after, timeout, propagate=False):
                if session.json:
                    print_line(object_to_json(msgspec.structs.asdict(item)))
                else:
                    text.write(item.value)
        finally:
            text.end()
        record = await result.fetch()
        if record.successful:
            return Exit.OK
        print_failure(record, with_traceback=session.verbose > 0)
        return Exit.FAILED


class _Text:
    """Prints items: pieces of text follow each other, other values have lines of their own."""

    def __init__(self) -> None:
        self._line_is_open = False

    def write(self, value: object) -> None:
        if isinstance(value, str):
            sys.stdout.write(value)
            self._line_is_open = not value.endswith("\n") if value else self._line_is_open
        else:
            self.end()
            sys.stdout.write(f"{value_text(value)}\n")
        sys.stdout.flush()

    def end(self) -> None:
        """End the last line, if it is not ended."""
        if self._line_is_open:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._line_is_open = False
