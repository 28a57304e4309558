"""wake: the time from when the producer has a value until the waiter runs again."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Protocol

from benchmarks.cases.case import QUICK_POLL, SLOW_POLL, Setting, Tally, fresh_run
from benchmarks.process import ChildFailed, Entrant, Pair, Pause
from benchmarks.rivals import WorkerWaker

PAUSE = (0.003, 0.009)
"""Seconds between two events, at random: the consumer and the connection are idle before each."""


class Waker(Protocol):
    """A contestant that can be woken; slow ones get fewer turns."""

    name: str
    slow: bool

    def wake(self, run: str, count: int, background: int, pause: Pause) -> list[float]:
        """Return the milliseconds of ``count`` wake-ups, one after the other."""

    def close(self) -> None: ...


class PairWaker(Pair):
    """A consumer and a producer in processes of their own."""

    slow = False

    def wake(self, run: str, count: int, background: int, pause: Pause) -> list[float]:
        return self.latencies("wake_consume", "wake_produce", run=run, count=count, pause=pause, background=background)


def run(setting: Setting) -> None:
    """Measure all contestants, turn by turn, alone and with many other waiters."""
    plan = setting.plan
    entrants = [setting.push(), setting.floor(), *setting.polling(), *_halves(setting)]
    intervals = {SLOW_POLL: 0.5, QUICK_POLL: 0.05} | {
        rival.name: rival.interval_on(setting.store) for rival in setting.rivals
    }
    with ExitStack() as stack:
        own: list[Waker] = []
        for entrant in entrants:
            setting.tell(f"{entrant.name} starts")
            own.append(stack.enter_context(closing(PairWaker(entrant))))
        _measure(setting, [*own, *_rivals(setting, stack)], intervals, 0)
        if setting.store == "redis" or plan.others_elsewhere:
            _measure(setting, own, intervals, plan.others)
    setting.host.clear()


def _rivals(setting: Setting, stack: ExitStack) -> list[Waker]:
    wakers: list[Waker] = []
    for rival in list(setting.rivals):
        setting.tell(f"{rival.name} starts")
        try:
            waker: Waker = WorkerWaker(rival) if rival.rival.worker else PairWaker(rival)
        except ChildFailed as exc:
            setting.leave_out(rival.name, exc)
        else:
            wakers.append(stack.enter_context(closing(waker)))
    return wakers


def _halves(setting: Setting) -> list[Entrant]:
    """Return pairs of which only one side is this library, to find out where its time is spent."""
    push, floor = setting.push(), setting.floor()
    if setting.store != "redis":
        return []  # on other stores, the two sides use different tables and channels
    return [
        Entrant("aioresult waits, floor stores", push.kind, push.url, producer=floor),
        Entrant("floor waits, aioresult stores", floor.kind, floor.url, producer=push),
    ]


def _measure(setting: Setting, wakers: list[Waker], intervals: dict[str, float], others: int) -> None:
    plan = setting.plan
    condition = "1 waiter" if not others else f"{others:,} others waiting"
    tally = Tally(setting, "wake", condition)
    for repetition in range(-1, plan.repetitions):
        for waker in list(wakers):
            interval = intervals.get(waker.name, 0.0)
            count = (
                plan.polled_wakes if interval else min(setting.wakes, plan.slow_wakes) if waker.slow else setting.wakes
            )
            if repetition < 0:
                count = 2 if interval else min(count, 50)  # a warm-up, whose figures are dropped
            setting.tell(f"{condition}, {waker.name}")
            try:
                samples = waker.wake(fresh_run(), count, others, (PAUSE[0], PAUSE[1] + interval))
            except ChildFailed as exc:
                if waker.name not in {rival.name for rival in setting.rivals}:
                    raise
                setting.leave_out(waker.name, exc)
                wakers.remove(waker)
                tally.drop(waker.name)
                continue
            if repetition >= 0:
                tally.add_latencies(waker.name, samples)
    tally.close()
