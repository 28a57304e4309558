"""``aioresult demo``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from aioresult.backend import Backend
from aioresult.cli.demo.display import Phase, milliseconds, picture, show_outcomes
from aioresult.cli.demo.phases import POLLING, Outcome, WrongValue, measure
from aioresult.cli.demo.process import Worker, WorkerDied
from aioresult.cli.exits import Exit
from aioresult.cli.output import print_error, print_line, to_json
from aioresult.cli.session import Session
from aioresult.errors import SettingsError


async def demo(
    session: Session,
    tasks: Annotated[int, typer.Option("--tasks", min=1, max=100_000, help="How many tasks to run each way.")] = 40,
) -> Exit:
    """Run tasks in a second process, and wait for them by push, then by polling every 0.5 s.

    Shows how long it takes from storing a result to waking its waiter, and what that costs. Without --url the
    store is a temporary SQLite file. Everything that is stored is deleted again.
    """
    try:
        with _store(session.url) as store:
            await _demo(msgspec.structs.replace(session, url=store), tasks, temporary=session.url is None)
    except (WorkerDied, WrongValue) as exc:
        print_error(str(exc))
        return Exit.FAILED
    return Exit.OK


@contextmanager
def _store(url: str | None) -> Iterator[str]:
    """Give the URL to use: the given one, or that of a database that is deleted afterwards."""
    if url is not None:
        if url.startswith("memory:"):
            raise SettingsError("memory:// is within one process, and the demo has two; give it another --url, or none")
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="aioresult-demo-") as folder:
        yield f"sqlite+aiosqlite:///{folder}/demo.db"


async def _demo(session: Session, count: int, *, temporary: bool) -> None:
    console = Console(quiet=session.json, highlight=False)
    async with session.backend() as push, session.backend(**POLLING) as polling:
        await push.ping()
        await polling.ping()
        location = push._runtime.store.location
        async with Worker(session.url or "", session.assignments()) as worker:
            place = f"  {location}{' (temporary)' if temporary else ''}"
            console.print(Text.assemble(("Store ", "bold"), place), soft_wrap=True)
            console.print(f"[bold]Worker[/]  process {worker.pid}: runs {count} tasks, stores progress and results")
            console.print("[bold]Here  [/]  awaits them all: by push, then the same work by polling every 0.5 s\n")
            outcomes = await _both(console, worker, {"push": push, "polling": polling}, count)
    if session.json:
        print_line(
            to_json({"store": location, "tasks": count, **{name: _facts(found) for name, found in outcomes.items()}})
        )
    else:
        _conclude(console, count, **outcomes, temporary=temporary)


async def _both(console: Console, worker: Worker, backends: dict[str, Backend], count: int) -> dict[str, Outcome]:
    phases = {name: Phase(name, count) for name in backends}
    live = console.is_terminal and not console.quiet
    outcomes: dict[str, Outcome] = {}
    shown = Live(console=console, get_renderable=lambda: picture(phases.values()), refresh_per_second=10)
    with shown if live else nullcontext():
        for name, phase in phases.items():
            phase.begin()
            outcomes[name] = await measure(worker, backends[name], count, phase.listen, phase.wake_ups.append)
            phase.end()
            if not live:
                console.print(f"{name}: {count} of {count} after {outcomes[name].seconds:.1f} s")
    return outcomes


def _facts(outcome: Outcome) -> dict[str, Any]:
    return {
        "mechanism": outcome.mechanism,
        "p50_ms": round(outcome.percentile(50), 3),
        "p99_ms": round(outcome.percentile(99), 3),
        "max_ms": round(outcome.wake_ups[-1], 3),
        "commands": outcome.commands,
        "states_seen": outcome.states,
        "seconds": round(outcome.seconds, 3),
        "values_compared": len(outcome.wake_ups),
    }


def _conclude(console: Console, count: int, push: Outcome, polling: Outcome, *, temporary: bool) -> None:
    console.print()
    show_outcomes(console, push, polling)
    console.print(Text(f"\nPush: {push.mechanism}."), soft_wrap=True)
    if temporary:
        console.print(
            "(SQLite has no server that could notify: each write of the worker is looked at, in the local file.)"
        )
    fast, slow = push.percentile(50), polling.percentile(50)
    console.print(f"All {2 * count} values are what the tasks computed.")
    console.print(
        f"Half of the results woke us within [bold green]{milliseconds(fast)}[/] by push, "
        f"within [bold]{milliseconds(slow)}[/] by polling: {slow / fast:.0f} times as long."
    )
