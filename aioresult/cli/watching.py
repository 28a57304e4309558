"""How ``aioresult watch`` shows states: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aioresult.background import together
from aioresult.cli.output import as_json, error_text, print_line, progress_of, summary
from aioresult.cli.snapshot import snapshot
from aioresult.errors import DecodeError, ResultTimeout
from aioresult.record import Record
from aioresult.result import AsyncResult
from aioresult.states import FAILURE, PENDING, REVOKED, SUCCESS

COLOURS: Final = {SUCCESS: "green", FAILURE: "red", REVOKED: "magenta", PENDING: "dim"}
_BAR: Final = 24


async def watch(results: Sequence[AsyncResult[Any]], timeout: float | None, *, json: bool) -> list[Record]:
    """Show each state of ``results`` until all are final or ``timeout`` has passed, and return their last states."""
    console = Console()
    if json:
        return await _follow(results, timeout, lambda record: print_line(as_json(record)))
    if not console.is_terminal:
        return await _follow(results, timeout, lambda record: print_line(_line(record)))
    board = _Board(results, console)
    with Live(console=console, get_renderable=board.render, refresh_per_second=10, transient=False):
        return await _follow(results, timeout, board.update)


async def _follow(
    results: Sequence[AsyncResult[Any]], timeout: float | None, show: Callable[[Record], None]
) -> list[Record]:
    latest = {result.id: Record(id=result.id) for result in results}

    def take(record: Record) -> None:
        latest[record.id] = record
        show(record)

    async def follow(result: AsyncResult[Any]) -> None:
        try:
            with suppress(ResultTimeout):  # the last state shows the timeout: it is not final
                async for record in result.updates(timeout):
                    take(record)
        except DecodeError as exc:
            take(Record.undecodable(result.id, exc))

    await together(map(follow, results), "aioresult watch")
    if late := [result for result in results if not latest[result.id].ended]:
        found = await snapshot(late[0].backend, [result.id for result in late])
        for record in found.values():
            if record.appearance() != latest[record.id].appearance():
                take(record)
    return list(latest.values())


def _line(record: Record) -> str:
    moment = (record.date_done or datetime.now().astimezone()).astimezone()
    return f"{moment:%H:%M:%S} {record.id} {record.status} {summary(record)}".rstrip()


class _Board:
    """The live table: one row for each task, those that are not final first where not all fit."""

    def __init__(self, results: Sequence[AsyncResult[Any]], console: Console) -> None:
        self._console = console
        self._records = {result.id: Record(id=result.id) for result in results}
        self._began = time.monotonic()

    def update(self, record: Record) -> None:
        self._records[record.id] = record

    def render(self) -> RenderableType:
        records = list(self._records.values())
        ready = sum(record.ready for record in records)
        room = max(1, self._console.height - 4)
        if len(records) > room:
            records = sorted(records, key=lambda record: record.ready)[:room]
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, expand=False)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(12, self._console.width // 3))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for record in records:
            colour = COLOURS.get(record.status, "yellow")
            table.add_row(Text(record.id), Text(record.status, colour), _detail(record))
        hidden = f", {len(self._records) - len(records)} not shown" if len(records) < len(self._records) else ""
        elapsed = time.monotonic() - self._began
        table.caption = f"{ready} of {len(self._records)} final after {elapsed:.1f} s{hidden}"
        table.caption_justify = "left"
        return table


def _detail(record: Record) -> RenderableType:
    """Return what is shown beside the state: a bar, a value or an error."""
    progress = progress_of(record)
    if record.error is not None:
        return Text(error_text(record.error))
    text = Text(summary(record))
    if progress is None or progress[1] is None:
        return text
    current, total = progress
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=total, completed=current, width=_BAR), text)
    return grid
