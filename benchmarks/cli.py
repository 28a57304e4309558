"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import suite
from benchmarks.figures import Results, Run
from benchmarks.plan import PLANS
from benchmarks.process import ChildFailed
from benchmarks.report import targets_table
from benchmarks.rivals import RIVALS, Rivals, default_folder
from benchmarks.servers import STORES
from benchmarks.targets import judge
from benchmarks.values import WrongValue

RESULTS = Path(__file__).resolve().parent / "results"

_ABOUT = """\
Poll versus push: what it costs to wait for results, measured side by side in one run against
  - the floor: the same stores and wake-ups on the bare driver, with nothing around them;
  - polling the same store every 0.5 s and every 0.05 s;
  - other libraries, each installed into an environment of its own at its first use.
Every value that a contestant returns is compared: a wrong one fails the run."""

_CASES = """\
cases:
  wake    store to resumed waiter, one at a time, alone and under 1,000 other pending waiters
  crowd   1 to 100,000 pending waiters in one process: registration, memory, idle commands, deliveries
  ready   get() of finished tasks, at concurrency 1 and 1,000
  store   stores, at concurrency 1 and 1,000
  group   joining 10,000 results
  sync    what the blocking mirror adds
  load    what waiting costs the server while nothing happens
  fan     several consumer processes on one store
  streams append to item, with few and many readers, many streams, late readers
  stop    revoke to cancelled coroutine in another process; what 10,000 running tasks take
  browser many open streams of events in one process, beside two handlers that people write

examples:
  python -m benchmarks                                  the quick run, about three minutes
  python -m benchmarks --full                           everything, about half an hour
  python -m benchmarks --cases wake,store --stores redis --peers none
  python -m benchmarks --url redis=redis://10.0.0.5/7   on a server of your own; its database is emptied!
  python -m benchmarks --redraw benchmarks/results/full.json"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=_ABOUT,
        epilog=_CASES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mode = made.add_mutually_exclusive_group()
    for name, text in (("full", "all stores, all cases, all peers"), ("tiny", "a few of each, to see that it works")):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    made.add_argument(
        "--cases", type=_names(suite.CASES), default=list(suite.CASES), metavar="A,B", help="default: all"
    )
    stores = f"of {', '.join(STORES)}; default: all"
    made.add_argument("--stores", type=_names(STORES), default=list(STORES), metavar="A,B", help=stores)
    peers = ", ".join(dict.fromkeys(rival.name.lower().partition(",")[0] for rival in RIVALS))
    made.add_argument(
        "--peers", metavar="A,B", help=f"of {peers}; or all, or none; default: celery, and all with --full"
    )
    made.add_argument(
        "--url",
        action="append",
        default=[],
        type=_url,
        metavar="STORE=URL",
        help="use this server instead of a private one; what the benchmarks store there is deleted, and on Redis the "
        "whole database is",
    )
    made.add_argument("--repetitions", type=int, help="turns of each contestant, instead of the mode's number")
    default = "default: %(default)s"
    made.add_argument("--output", type=Path, default=RESULTS, help=f"folder for JSON, Markdown and plots; {default}")
    made.add_argument(
        "--environments", type=Path, default=default_folder(), help=f"folder for the peers' environments; {default}"
    )
    made.add_argument("--no-plots", action="store_true", help="draw nothing")
    made.add_argument("--redraw", type=Path, metavar="JSON", help="measure nothing; report and draw this run again")
    made.set_defaults(mode="quick")
    return made


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    allowed = list(known)

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"unknown name {name!r}; known are {', '.join(allowed)}")
        return [name for name in allowed if name in names]

    return parse


def _url(text: str) -> tuple[str, str]:
    store, separator, url = text.partition("=")
    if not separator or store not in STORES or "://" not in url:
        raise argparse.ArgumentTypeError(f"expected STORE=URL with a store of {', '.join(STORES)}, not {text!r}")
    return store, url


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite by the command line; return the exit status."""
    chosen = parser().parse_args(arguments)
    console = Console(stderr=True)
    if chosen.redraw is not None:
        finished = suite.read(chosen.redraw)
    else:
        try:
            finished = _measure(chosen, console, sys.argv[1:] if arguments is None else arguments)
        except (ChildFailed, WrongValue) as exc:
            console.print("[bold red]The run has failed; nothing is reported.[/]")
            console.print(str(exc), markup=False)
            return 1
    files = suite.write(finished, chosen.output)
    if not chosen.no_plots:
        from benchmarks import plots

        files += plots.draw(finished, chosen.output)
    print(targets_table(judge(Results(finished.figures))))
    for path in files:
        console.print(f"wrote {path}", markup=False, highlight=False)
    return 0


def _measure(chosen: argparse.Namespace, console: Console, arguments: Sequence[str]) -> Run:
    plan = PLANS[chosen.mode]
    if chosen.repetitions is not None:
        plan = msgspec.structs.replace(
            plan, repetitions=chosen.repetitions, heavy_repetitions=min(chosen.repetitions, plan.heavy_repetitions)
        )
    names = plan.peers if chosen.peers is None else [name.strip().lower() for name in chosen.peers.split(",")]
    total = sum(len(cases) for _, cases in suite.steps(plan, chosen.cases, chosen.stores))
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("", total=total)
        began = time.monotonic()

        def done(store: str, case: str) -> None:
            progress.advance(bar)
            if not console.is_terminal:  # where no bar can be drawn, as in a file
                minutes, seconds = divmod(round(time.monotonic() - began), 60)
                console.print(f"{minutes}:{seconds:02} {store}: {case} is measured", markup=False, highlight=False)

        return suite.run(
            mode=chosen.mode,
            command=" ".join(["python -m benchmarks", *arguments]),
            plan=plan,
            cases=chosen.cases,
            stores=chosen.stores,
            urls=dict(chosen.url),
            rivals=Rivals(names, chosen.environments),
            tell=lambda store, case, text: progress.update(
                bar, description=" ".join(part for part in (store, case, text) if part).ljust(60)[:60]
            ),
            done=done,
        )
