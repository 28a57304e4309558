"""load: what waiting costs the store's server and the waiting process while nothing happens."""

from __future__ import annotations

import time

from benchmarks.cases.case import Setting, Tally, fresh_run
from benchmarks.process import Child, ChildFailed, Entrant
from benchmarks.rivals import RivalEntrant

NOBODY = "nobody (the server at rest, and asking it for its counters)"


def run(setting: Setting) -> None:
    """Measure each number of waiters, for each contestant in turn."""
    for waiters in setting.plan.waiters:
        tally = Tally(setting, "load", f"{waiters:,} waiters")
        for _ in range(setting.plan.heavy_repetitions):
            setting.tell(f"{waiters:,} waiters, {NOBODY}")
            _watch(setting, tally, NOBODY, waiters)
            for entrant in (setting.push(), *setting.polling()):
                setting.tell(f"{waiters:,} waiters, {entrant.name}")
                _turn(setting, tally, entrant, waiters)
            for rival in list(setting.rivals):
                if waiters <= rival.rival.many:
                    setting.tell(f"{waiters:,} waiters, {rival.name}")
                    try:
                        _rival_turn(setting, tally, rival, waiters)
                    except ChildFailed as exc:
                        setting.leave_out(rival.name, exc)
        tally.close()


def _turn(setting: Setting, tally: Tally, entrant: Entrant, waiters: int) -> None:
    with entrant.start() as child:
        child.ask("register", run=fresh_run(), count=waiters)
        before = child.ask("usage")
        _watch(setting, tally, entrant.name, waiters)
        after = child.ask("usage")
        client = (after["cpu"] - before["cpu"]) / setting.plan.window
        tally.add(entrant.name, "client CPU", "ms/s", client * 1e3, waiters)
        commands = (after["commands"] - before["commands"]) / setting.plan.window
        tally.add(entrant.name, "commands sent", "1/s", commands, waiters)
        child.ask("abandon")


def _rival_turn(setting: Setting, tally: Tally, rival: RivalEntrant, waiters: int) -> None:
    """Let a rival wait for tasks that no worker runs."""
    child: Child = rival.start()
    try:
        child.ask("hang", count=waiters)
        _watch(setting, tally, rival.name, waiters)
    finally:
        child.close()
    setting.host.clear()


def _watch(setting: Setting, tally: Tally, name: str, waiters: int) -> None:
    before, began = setting.host.load(), time.monotonic()
    time.sleep(setting.plan.window)
    after, seconds = setting.host.load(), time.monotonic() - began
    if before.commands is not None and after.commands is not None:
        tally.add(name, "server commands", "1/s", (after.commands - before.commands) / seconds, waiters)
    tally.add(name, "server CPU", "ms/s", (after.cpu - before.cpu) / seconds * 1e3, waiters)
    tally.add(name, "connections", "", after.connections, waiters)
