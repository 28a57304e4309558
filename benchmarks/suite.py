"""One run: stores are started, cases are measured, and everything is written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import machine
from benchmarks.cases import browser, crowd, fan, group, load, stop, streams, sync, throughput, wake
from benchmarks.cases.case import Setting
from benchmarks.figures import Results, Run
from benchmarks.plan import Plan
from benchmarks.report import markdown
from benchmarks.rivals import Rivals
from benchmarks.servers import STORES

CASES: Final[dict[str, Callable[[Setting], None]]] = {
    "wake": wake.run,
    "crowd": crowd.run,
    "ready": throughput.ready,
    "store": throughput.store,
    "group": group.run,
    "sync": sync.run,
    "load": load.run,
    "fan": fan.run,
    "streams": streams.run,
    "stop": stop.run,
    "browser": browser.run,
}
_WITHOUT_SERVER: Final = {"sqlite": ("load", "fan")}
"""Cases that are left out without a server, because they concern its load or several consumers."""

Tell = Callable[[str, str, str], None]
"""Called with store, case and the present step."""


def steps(plan: Plan, cases: Sequence[str], stores: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each store with the cases that are to be measured on it."""
    for store in stores:
        possible = CASES if store == "redis" else plan.elsewhere
        chosen = [case for case in cases if case in possible and case not in _WITHOUT_SERVER.get(store, ())]
        if chosen:
            yield store, chosen


def run(
    *,
    mode: str,
    command: str,
    plan: Plan,
    cases: Sequence[str],
    stores: Sequence[str],
    urls: Mapping[str, str],
    rivals: Rivals,
    tell: Tell,
    done: Callable[[str, str], None],
) -> Run:
    """Measure ``cases`` on ``stores`` and return the run.

    Raises:
        WrongValue, ChildFailed: a contestant returned a wrong value, or its process failed; then nothing is reported.
    """
    started, began = datetime.now(UTC), time.monotonic()
    about = machine.describe()
    rivals.install(lambda text: tell("", "", text))
    results, versions = Results(), machine.versions() | rivals.versions()
    left_out = dict(rivals.left_out)
    for store, chosen in steps(plan, cases, stores):
        tell(store, "", "starting the server")
        with STORES[store](urls.get(store)) as host:
            versions[store] = host.version
            for case in chosen:

                def show(text: str, store: str = store, case: str = case) -> None:
                    tell(store, case, text)

                entrants = rivals.entrants(store, host.url, case)
                setting = Setting(store, host, plan, results, entrants, show)
                CASES[case](setting)
                left_out |= setting.left_out
                done(store, case)
    return Run(
        command=command,
        mode=mode,
        started=started.strftime("%Y-%m-%d %H:%M UTC"),
        seconds=time.monotonic() - began,
        machine=about,
        versions=versions,
        sizes=msgspec.structs.asdict(plan),
        left_out=left_out,
        figures=results.figures,
    )


def write(finished: Run, folder: Path) -> list[Path]:
    """Write ``finished`` as JSON and as Markdown into ``folder``, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    json, text = folder / f"{finished.mode}.json", folder / f"{finished.mode}.md"
    json.write_bytes(msgspec.json.format(msgspec.json.encode(finished), indent=1) + b"\n")
    text.write_text(markdown(finished))
    return [json, text]


def read(path: Path) -> Run:
    """Return a run that ``write`` has written."""
    return msgspec.json.decode(path.read_bytes(), type=Run)
