"""stop: the time from revoking a task until it is cancelled in another process."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.cases.case import PUSH, Setting, Tally, fresh_run
from benchmarks.cases.streams import RESULT
from benchmarks.cases.wake import PAUSE, PairWaker
from benchmarks.process import Pair

ONE: Final = "1 task, stopped from another process"
_WARM_UP: Final = 50


def tasks_condition(count: int) -> str:
    """Return the name of the condition with this number of tasks that run in one process."""
    return f"{count:,} running tasks"


def run(setting: Setting) -> None:
    """Measure stops and wake-ups of results, turn by turn; and what a process with many running tasks costs."""
    _one(setting)
    for count in setting.plan.running:
        _many(setting, count)
    setting.host.clear()


def _one(setting: Setting) -> None:
    tally = Tally(setting, "stop", ONE)
    wakes = setting.wakes
    with Pair(setting.push()) as stopper, PairWaker(setting.push()) as waker:
        for repetition in range(-1, setting.plan.repetitions):
            count = min(wakes, _WARM_UP) if repetition < 0 else wakes  # a warm-up, whose figures are dropped
            for name in (PUSH, RESULT):
                setting.tell(f"{ONE}, {name}")
                run = fresh_run()
                if name == PUSH:
                    samples = stopper.latencies("stop_consume", "stop_produce", run=run, count=count, pause=PAUSE)
                else:
                    samples = waker.wake(run, count, 0, PAUSE)
                if repetition >= 0:
                    tally.add_latencies(name, samples)
    tally.close()


def _many(setting: Setting, count: int) -> None:
    tally = Tally(setting, "stop", tasks_condition(count))
    for _ in range(setting.plan.heavy_repetitions):
        run = fresh_run()
        setting.tell(tasks_condition(count))
        with setting.push().start() as child:
            begun = child.ask("run_many", run=run, count=count)
            tally.add(PUSH, "start", "s", begun["seconds"], count)
            tally.add(PUSH, "memory per task", "B", begun["memory"], count)
            tally.add(PUSH, "commands to start", "", begun["commands"], count)
            before, began = child.ask("usage"), time.monotonic()
            time.sleep(setting.plan.idle)
            after, seconds = child.ask("usage"), time.monotonic() - began
            tally.add(PUSH, "CPU while idle", "%", 100 * (after["cpu"] - before["cpu"]) / seconds, count)
            commands = (after["commands"] - before["commands"]) / seconds
            tally.add(PUSH, "commands per second while idle", "1/s", commands, count)
            stopped = child.ask("stop_many", run=run, count=count)["revoked"]
            assert stopped == count, f"{count - stopped} of {count} tasks were not revoked"
        setting.host.clear()
    tally.close()
