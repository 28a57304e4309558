"""wake: from the moment at which the producer has a value to the moment at which the waiter runs again."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Protocol

from benchmarks.cases.case import FLOOR, PUSH, QUICK_POLL, SLOW_POLL, Setting, Tally, fresh_run
from benchmarks.process import Entrant, Pair
from benchmarks.stats import quantile

PAUSE = (0.003, 0.009)
"""Seconds between two events, at random: the consumer and the connection are idle before each."""
POLLED = {SLOW_POLL: 0.5, QUICK_POLL: 0.05}


class Waker(Protocol):
    """Whoever can be woken."""

    name: str

    def wake(self, run: str, count: int, background: int, pause: tuple[float, float]) -> list[float]:
        """Return the milliseconds of ``count`` wake-ups, one after the other."""

    def close(self) -> None: ...


class PairWaker(Pair):
    """A consumer and a producer that are processes of their own."""

    def wake(self, run: str, count: int, background: int, pause: tuple[float, float]) -> list[float]:
        self.consumer.send("wake_consume", run=run, count=count, background=background)
        self.producer.send("wake_produce", run=run, count=count, pause=pause)
        stored_at = self.producer.reply()["stored_at"]
        resumed_at = self.consumer.reply()["resumed_at"]
        return [(resumed - stored) / 1e6 for stored, resumed in zip(stored_at, resumed_at, strict=True)]


def run(setting: Setting) -> None:
    """Measure all contestants, turn by turn, alone and under many others."""
    plan = setting.plan
    entrants = [setting.push(), setting.floor(), *setting.polling(), *_halves(setting)]
    with ExitStack() as stack:
        wakers: list[Waker] = []
        for entrant in entrants:
            setting.tell(f"{entrant.name} starts")
            waker = PairWaker(entrant)
            stack.callback(waker.close)
            wakers.append(waker)
        for others in (0, plan.others):
            _measure(setting, wakers, others)


def _halves(setting: Setting) -> list[Entrant]:
    """Return pairs of which only one side is this library, to see where its time goes."""
    push, floor = setting.push(), setting.floor()
    if setting.store != "redis":
        return []  # elsewhere the two do not use the same tables and channels
    return [
        Entrant("aioresult waits, floor stores", push.kind, push.url, producer=floor),
        Entrant("floor waits, aioresult stores", floor.kind, floor.url, producer=push),
    ]


def _measure(setting: Setting, wakers: list[Waker], others: int) -> None:
    plan = setting.plan
    condition = "1 waiter" if not others else f"{others:,} others waiting"
    tally = Tally(setting, "wake", condition)
    for repetition in range(-1, plan.repetitions):
        for waker in wakers:
            interval = POLLED.get(waker.name, 0.0)
            if interval and repetition < 0:
                continue
            count = plan.polled_wakes if interval else plan.wakes
            if repetition < 0:
                count = min(count, 50)  # a warm-up, whose figures are dropped
            pause = (PAUSE[0], PAUSE[0] + interval) if interval else PAUSE
            setting.tell(f"{condition}, {waker.name}")
            samples = waker.wake(fresh_run(), count, others, pause)
            if repetition >= 0:
                tally.add(waker.name, "p50", "ms", quantile(samples, 0.5), count)
                tally.add(waker.name, "p99", "ms", quantile(samples, 0.99), count)
                tally.add_samples(waker.name, "p50", samples)
    tally.close()


__all__ = ["FLOOR", "PUSH", "PairWaker", "Waker", "run"]
