"""group: the time from storing the first of many results until all of them are joined."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.cases.case import Setting, Tally, fresh_run
from benchmarks.process import Entrant, Pair

WAYS = ("gather", "as_completed", "GroupResult.join")


def run(setting: Setting) -> None:
    """Measure each of this library's ways, and the floor's ``gather``."""
    plan, url = setting.plan, setting.host.url
    producer = setting.producer(setting.push())
    entrants = [Entrant(f"aioresult, {way}", "aioresult", url, producer=producer, join=way) for way in WAYS]
    entrants.append(setting.floor())
    tally = Tally(setting, "group", f"{plan.members:,} members")
    with ExitStack() as stack:
        pairs = []
        for entrant in entrants:
            setting.tell(f"{entrant.name} starts")
            pairs.append(stack.enter_context(Pair(entrant)))
        for repetition in range(-1, plan.repetitions):
            for pair in pairs:
                setting.tell(f"{plan.members:,} members, {pair.name}")
                count = min(plan.members, 1000) if repetition < 0 else plan.members
                _turn(tally if repetition >= 0 else None, pair, count)
    tally.close()
    setting.host.clear()


def _turn(tally: Tally | None, pair: Pair, count: int) -> None:
    run = fresh_run()
    pair.producer.ask("prepare", run=run, count=count)
    pair.consumer.send("join", run=run, count=count)
    pair.producer.send("produce_on_signal")
    produced, joined = pair.producer.reply(), pair.consumer.reply()
    if tally is not None:
        seconds = (joined["done_at"] - produced["began_at"]) / 1e9
        tally.add(pair.name, "time to join", "ms", seconds * 1e3, count)
        tally.add(pair.name, "members per second", "1/s", count / seconds, count)
        tally.add(pair.name, "consumer CPU per member", "us", joined["cpu"] / count * 1e6, count)
