"""fan: one store and several consumer processes; how the cost of one result grows with their number."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.cases.case import Setting, Tally, fresh_run
from benchmarks.process import Entrant


def run(setting: Setting) -> None:
    """Measure each number of processes, which share the same number of results."""
    plan = setting.plan
    for processes in plan.processes:
        tally = Tally(setting, "fan", f"{processes} processes" if processes > 1 else "1 process")
        for _ in range(plan.heavy_repetitions):
            for entrant in (setting.push(), setting.floor(), setting.polling()[1]):
                setting.tell(f"{processes} processes, {entrant.name}")
                _turn(setting, tally, entrant, processes)
                setting.host.clear()
        tally.close()


def _turn(setting: Setting, tally: Tally, entrant: Entrant, processes: int) -> None:
    run, share = fresh_run(), setting.plan.fan_results // processes
    total = share * processes
    with ExitStack() as stack:
        consumers = [stack.enter_context(entrant.start()) for _ in range(processes)]
        producer = stack.enter_context(setting.producer(entrant).start())
        for number, consumer in enumerate(consumers):
            consumer.send("register", run=run, count=share, start=number * share)
        for consumer in consumers:
            consumer.reply()
        producer.ask("prepare", run=run, count=total)
        before = setting.host.load()
        for consumer in consumers:
            consumer.send("collect")
        producer.send("produce")
        began_at = producer.reply()["began_at"]
        replies = [consumer.reply() for consumer in consumers]
        spent = setting.host.load().cpu - before.cpu
    seconds = (max(reply["done_at"] for reply in replies) - began_at) / 1e9
    cpu = sum(reply["cpu"] * reply["checked"] for reply in replies)
    tally.add(entrant.name, "results per second", "1/s", total / seconds, total)
    tally.add(entrant.name, "consumers' CPU per result", "us", cpu / total * 1e6, total)
    tally.add(entrant.name, "server CPU per result", "us", spent / total * 1e6, total)
