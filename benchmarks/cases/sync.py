"""sync: what the blocking mirror adds to the asynchronous interface."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.cases.case import PUSH, Setting, Tally, fresh_run
from benchmarks.cases.wake import PAUSE
from benchmarks.process import Child, Pair
from benchmarks.stats import quantile

SHIM = "aioresult.sync"


def run(setting: Setting) -> None:
    """Measure wake-ups and reads, in turns of both, and reads in many threads."""
    plan = setting.plan
    with ExitStack() as stack:
        pairs = [stack.enter_context(Pair(setting.push())) for _ in (PUSH, SHIM)]
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
                _note(wakes if note else None, name, samples)
            for name, pair in ((PUSH, asynchronous), (SHIM, blocking)):
                setting.tell(f"reads, {name}")
                samples = _read(pair.consumer, counts, threads=1 if name == SHIM else 0)[0]
                _note(reads if note else None, name, samples)
            setting.tell(f"{plan.threads} threads, {SHIM}")
            many = max(plan.threads, counts * 4)
            samples, seconds = _read(blocking.consumer, many, threads=plan.threads)
            if note:
                _note(threaded, SHIM, samples)
                threaded.add(SHIM, "per second", "1/s", many / seconds, many)
        for tally in (wakes, reads, threaded):
            tally.close()
    setting.host.clear()


def _note(tally: Tally | None, name: str, samples: list[float]) -> None:
    if tally is not None:
        tally.add(name, "p50", "ms", quantile(samples, 0.5), len(samples))
        tally.add(name, "p99", "ms", quantile(samples, 0.99), len(samples))
        tally.add_samples(name, "p50", samples)


def _wake(pair: Pair, count: int, *, blocking: bool) -> list[float]:
    run = fresh_run()
    if blocking:
        pair.consumer.send("wake_blocking", run=run, count=count)
    else:
        pair.consumer.send("wake_consume", run=run, count=count, background=0)
    pair.producer.send("wake_produce", run=run, count=count, pause=PAUSE)
    stored_at = pair.producer.reply()["stored_at"]
    resumed_at = pair.consumer.reply()["resumed_at"]
    return [(resumed - stored) / 1e6 for stored, resumed in zip(stored_at, resumed_at, strict=True)]


def _read(child: Child, count: int, *, threads: int) -> tuple[list[float], float]:
    """Return the milliseconds of each read, and the seconds of all where threads share them."""
    run = fresh_run()
    child.ask("prepare", run=run, count=count)
    child.ask("produce")
    if threads:
        reply = child.ask("read_blocking", run=run, count=count, threads=threads)
    else:
        reply = child.ask("read_one_by_one", run=run, count=count)
    return [nanoseconds / 1e6 for nanoseconds in reply["spent"]], reply.get("seconds", 0.0)
