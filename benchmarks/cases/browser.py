"""browser: many open streams of events in one process; what each costs, and how soon an item arrives."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.cases.case import PUSH, Setting, Tally, fresh_run
from benchmarks.stats import milliseconds

HANDLERS: Final = {PUSH: "aioresult", "handler that polls every 0.5 s": "poll", "handler with redis-py": "subscribe"}
_PER_SECOND: Final = 500.0
"""Items that are appended per second, over all streams."""


def streams_condition(count: int) -> str:
    """Return the name of the condition with this number of open streams."""
    return f"{count:,} open event streams"


def run(setting: Setting) -> None:
    """Measure the library's application and two usual handlers, turn by turn."""
    for count in setting.plan.browsers:
        tally = Tally(setting, "browser", streams_condition(count))
        for _ in range(setting.plan.heavy_repetitions):
            for name, how in HANDLERS.items():
                setting.tell(f"{streams_condition(count)}, {name}")
                _measure(setting, tally, name, how, count)
                setting.host.clear()
        tally.close()


def _measure(setting: Setting, tally: Tally, name: str, how: str, count: int) -> None:
    run = fresh_run()
    with setting.push().start() as server, setting.push().start() as browsers, setting.push().start() as producer:
        begun = server.ask("serve_begin", how=how)
        browsers.ask("browse_begin", run=run, count=count, port=begun["port"])
        before, began = server.ask("serve_usage"), time.monotonic()
        tally.add(name, "memory per stream", "B", (before["memory"] - begun["memory"]) / count, count)
        time.sleep(setting.plan.idle)
        idle, seconds = server.ask("serve_usage"), time.monotonic() - began
        tally.add(name, "CPU while idle", "%", 100 * (idle["cpu"] - before["cpu"]) / seconds, count)
        stored_at = producer.ask("append_each", run=run, count=count, per_second=_PER_SECOND)["stored_at"]
        arrived_at = browsers.ask("browse_end")["arrived_at"]
        spent = server.ask("serve_usage")["cpu"] - idle["cpu"]
        tally.add_latencies(name, milliseconds(stored_at, arrived_at))
        tally.add(name, "CPU per item", "us", 1e6 * spent / count, count)
        server.ask("serve_end")
