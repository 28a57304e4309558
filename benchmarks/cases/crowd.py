"""crowd: many pending waiters in one process; what they cost while they wait, and how fast all of them are served."""

from __future__ import annotations

import time

from benchmarks.cases.case import Setting, Tally, fresh_run
from benchmarks.process import Child, Entrant

WITH_TIMEOUT = "aioresult, timeout on every get"
_TIMEOUT = 600.0


def run(setting: Setting) -> None:
    """Measure each size, with a new process for each turn, so that memory is not shared between turns."""
    plan = setting.plan
    for size in plan.crowds if setting.store == "redis" else plan.small_crowds:
        tally = Tally(setting, "crowd", f"{size:,} waiters")
        for _ in range(plan.heavy_repetitions):
            for entrant in (setting.push(), Entrant(WITH_TIMEOUT, "aioresult", setting.host.url), setting.floor()):
                setting.tell(f"{size:,} waiters, {entrant.name}")
                _turn(setting, tally, entrant, size)
                setting.host.clear()
        tally.close()


def _turn(setting: Setting, tally: Tally, entrant: Entrant, size: int) -> None:
    run = fresh_run()
    timeout = _TIMEOUT if entrant.name == WITH_TIMEOUT else None
    before = setting.host.load()
    with entrant.start() as consumer, setting.producer(entrant).start() as producer:
        registered = consumer.ask("register", run=run, count=size, timeout=timeout)
        tally.add(entrant.name, "registration", "s", registered["seconds"], size)
        tally.add(entrant.name, "memory per waiter", "B", registered["memory"], size)
        if registered["commands"]:
            tally.add(entrant.name, "registration commands", "", registered["commands"], size)
        idle = _idle(setting, entrant, consumer)
        if idle is not None:
            tally.add(entrant.name, "commands per second while idle", "1/s", idle, size)
        connections = setting.host.load().connections - before.connections
        tally.add(entrant.name, "connections", "", connections, size)
        _deliver(setting, tally, entrant.name, (consumer, producer), run, size)


def _idle(setting: Setting, entrant: Entrant, consumer: Child) -> float | None:
    """Return the commands per second while nothing happens: the client's count if there is one, else the server's."""

    def commands() -> float | None:
        return consumer.ask("usage")["commands"] if entrant.kind == "aioresult" else setting.host.load().commands

    before, began = commands(), time.monotonic()
    time.sleep(setting.plan.idle)
    after = commands()
    return None if before is None or after is None else (after - before) / (time.monotonic() - began)


def _deliver(setting: Setting, tally: Tally, name: str, children: tuple[Child, Child], run: str, size: int) -> None:
    consumer, producer = children
    producer.ask("prepare", run=run, count=size)
    before = setting.host.load()
    consumer.send("collect")
    producer.send("produce")
    produced, collected = producer.reply(), consumer.reply()
    seconds = (collected["done_at"] - produced["began_at"]) / 1e9
    tally.add(name, "deliveries per second", "1/s", size / seconds, size)
    tally.add(name, "consumer CPU per result", "us", collected["cpu"] * 1e6, size)
    tally.add(name, "server CPU per result", "us", (setting.host.load().cpu - before.cpu) / size * 1e6, size)
