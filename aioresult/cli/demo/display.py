"""What the demo shows: bars that move on a terminal, lines elsewhere, and a table at the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aioresult.cli.demo.phases import Outcome
from aioresult.cli.output import progress_of
from aioresult.record import Record

_BAR: Final = 26
_ROWS: Final = 8


def milliseconds(value: float) -> str:
    """Return a duration with three significant digits at most."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


class Phase:
    """One phase while it runs."""

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.count = count
        self.records: dict[int, Record] = {}
        self.wake_ups: list[float] = []
        self._began: float | None = None
        self._seconds: float | None = None

    def begin(self) -> None:
        self._began = time.monotonic()

    def listen(self, number: int, record: Record) -> None:
        self.records[number] = record

    def end(self) -> None:
        self._seconds = time.monotonic() - (self._began or 0)

    @property
    def running(self) -> list[tuple[int, Record]]:
        """The tasks that have begun and are not final."""
        records = self.records.copy()  # a copy, because it is drawn in another thread
        return [(number, records[number]) for number in sorted(records) if not records[number].ready]

    def row(self) -> tuple[RenderableType, ...]:
        """Draw the phase on one line."""
        done = len(self.wake_ups)
        bar = ProgressBar(total=self.count, completed=done, width=_BAR)
        if self._began is None:
            note = Text("")
        else:
            seconds = self._seconds or time.monotonic() - self._began
            median = f", woken after {milliseconds(statistics.median(self.wake_ups))}" if self.wake_ups else ""
            note = Text(f"{seconds:.1f} s{median}", style="" if self._seconds else "dim")
        return Text(self.name, style="bold"), bar, Text(f"{done}/{self.count}"), note


def picture(phases: Collection[Phase]) -> RenderableType:
    """Draw a line for each phase, and below them the tasks that are running."""
    top = Table.grid(padding=(0, 2, 0, 0))
    for phase in phases:
        top.add_row(*phase.row())
    running = [entry for phase in phases for entry in phase.running]
    tasks = Table.grid(padding=(0, 2, 0, 2))
    for number, record in running[:_ROWS]:
        current, total = progress_of(record) or (0.0, None)
        bar = ProgressBar(total=total or 1, completed=current, width=_BAR, style="dim", complete_style="cyan")
        tasks.add_row(Text(f"task {number}", style="dim"), bar, Text(record.status.lower(), style="dim"))
    return Group(top, Text(""), tasks) if running else top


def show_outcomes(console: Console, push: Outcome, polling: Outcome) -> None:
    """Print what was measured, side by side."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("")
    table.add_column("push", justify="right", style="green")
    table.add_column("0.5 s polling", justify="right")
    rows = [
        ("wake-up, p50", *(milliseconds(outcome.percentile(50)) for outcome in (push, polling))),
        ("wake-up, p99", *(milliseconds(outcome.percentile(99)) for outcome in (push, polling))),
        ("commands to the store", *(str(outcome.commands) for outcome in (push, polling))),
        ("states and progress seen", *(str(outcome.states) for outcome in (push, polling))),
        ("all results after", *(f"{outcome.seconds:.1f} s" for outcome in (push, polling))),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)
