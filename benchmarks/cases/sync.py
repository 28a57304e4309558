"""sync: what the blocking mirror adds to the asynchronous interface."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.cases.case import PUSH, Setting, Tally, fresh_run
from benchmarks.cases.wake import PAUSE, PairWaker
from benchmarks.process import Child

SHIM = "aioresult.sync"


def run(setting: Setting) -> None:
    """Measure wake-ups and reads, in turns of both, and reads in many threads."""
    plan = setting.plan
    with ExitStack() as stack:
        pairs = [stack.enter_context(PairWaker(setting.push())) for _ in (PUSH, SHIM)]
        asynchronous, blocking = pairs
        wakes = Tally(setting, "sync", "wake, 1 waiter")
        reads = Tally(setting, "sync", "get() of a finished task")
        threaded = Tally(setting, "sync", f"get() of finished tasks, {plan.threads} threads")
        for repetition in range(-1, plan.repetitions):
            counts = min(20, plan.calls) if repetition < 0 else plan.calls
            note = repetition >= 0
            for name, pair in ((PUSH, asynchronous), (SHIM, blocking)):
                setting.tell(f"wake, {name}")
                samples = _wake(pair, counts, blocking=name == SHIM)
                if note:
                    wakes.add_latencies(name, samples)
            for name, pair in ((PUSH, asynchronous), (SHIM, blocking)):
                setting.tell(f"reads, {name}")
                samples = _read(pair.consumer, counts, threads=1 if name == SHIM else 0)[0]
                if note:
                    reads.add_latencies(name, samples)
            setting.tell(f"{plan.threads} threads, {SHIM}")
            many = max(plan.threads, counts * 4)
            samples, seconds = _read(blocking.consumer, many, threads=plan.threads)
            if note:
                threaded.add_latencies(SHIM, samples)
                threaded.add(SHIM, "per second", "1/s", many / seconds, many)
        for tally in (wakes, reads, threaded):
            tally.close()
    setting.host.clear()


def _wake(pair: PairWaker, count: int, *, blocking: bool) -> list[float]:
    if blocking:
        return pair.latencies("wake_blocking", "wake_produce", run=fresh_run(), count=count, pause=PAUSE)
    return pair.wake(fresh_run(), count, 0, PAUSE)


def _read(child: Child, count: int, *, threads: int) -> tuple[list[float], float]:
    """Return the milliseconds of each read, and the total seconds if threads share the reads."""
    run = fresh_run()
    child.ask("prepare", run=run, count=count)
    child.ask("produce")
    if threads:
        reply = child.ask("read_blocking", run=run, count=count, threads=threads)
    else:
        reply = child.ask("read_one_by_one", run=run, count=count)
    return [nanoseconds / 1e6 for nanoseconds in reply["spent"]], reply.get("seconds", 0.0)
