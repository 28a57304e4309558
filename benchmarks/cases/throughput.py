"""ready and store: how many finished results are read, and how many are stored, per second."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks.cases.case import Setting, Tally, fresh_run
from benchmarks.process import Child, Entrant

DRIVER = {"redis": "redis-py, pooled", "postgresql": "asyncpg, a commit for each result"}


def _entrants(setting: Setting) -> list[Entrant]:
    entrants = [setting.push(), setting.floor()]
    if setting.store == "redis":
        entrants.append(Entrant(DRIVER["redis"], "redis-py", setting.host.url))
    if setting.store == "postgresql":
        entrants.append(Entrant(DRIVER["postgresql"], "postgresql-plain", setting.host.url))
    return entrants


def ready(setting: Setting) -> None:
    """Measure ``get()`` of finished tasks."""
    _measure(setting, "ready", setting.plan.reads)


def store(setting: Setting) -> None:
    """Measure stores."""
    _measure(setting, "store", setting.plan.writes)


def _measure(setting: Setting, case: str, sizes: tuple[int, int]) -> None:
    plan = setting.plan
    with ExitStack() as stack:
        children: list[tuple[str, Child]] = []
        for entrant in _entrants(setting):
            setting.tell(f"{entrant.name} starts")
            children.append((entrant.name, stack.enter_context(entrant.start())))
        for concurrency, count in zip((1, plan.concurrency), sizes, strict=True):
            tally = Tally(setting, case, f"concurrency {concurrency:,}")
            for repetition in range(-1, plan.repetitions):
                for name, child in children:
                    setting.tell(f"concurrency {concurrency:,}, {name}")
                    turn = partial(_read if case == "ready" else _write, setting, child, concurrency)
                    if repetition < 0:
                        turn(min(count, 2000))
                    else:
                        _note(tally, name, count, turn(count))
            tally.close()


def _note(tally: Tally, name: str, count: int, reply: dict[str, float]) -> None:
    tally.add(name, "per second", "1/s", count / reply["seconds"], count)
    tally.add(name, "CPU per operation", "us", reply["cpu"] / count * 1e6, count)
    tally.add(name, "server CPU per operation", "us", reply["server_cpu"] / count * 1e6, count)
    for metric in ("commands", "commits"):
        if metric in reply:
            tally.add(name, f"{metric} per operation", "", reply[metric] / count, count)


def _read(setting: Setting, child: Child, concurrency: int, count: int) -> dict[str, float]:
    run = fresh_run()
    child.ask("prepare", run=run, count=count)
    child.ask("produce")
    reply = _loaded(setting, child, "read", run, concurrency, count)
    setting.host.clear()
    return reply


def _write(setting: Setting, child: Child, concurrency: int, count: int) -> dict[str, float]:
    """Measure stores, and read back every one of them."""
    run = fresh_run()
    reply = _loaded(setting, child, "write", run, concurrency, count)
    child.ask("read", run=run, count=count, concurrency=min(count, 1000))
    setting.host.clear()
    return reply


def _loaded(setting: Setting, child: Child, operation: str, run: str, concurrency: int, count: int) -> dict[str, float]:
    before = setting.host.load()
    reply = child.ask(operation, run=run, count=count, concurrency=concurrency)
    after = setting.host.load()
    measured = {"seconds": reply["seconds"], "cpu": reply["cpu"], "server_cpu": after.cpu - before.cpu}
    if before.commands is not None and after.commands is not None:
        measured["commands"] = after.commands - before.commands
    if before.writes is not None and after.writes is not None:
        measured["commits"] = after.writes - before.writes
    return measured
