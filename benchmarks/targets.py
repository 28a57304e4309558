"""The figures that the hot path is to reach, each as a ratio within one run, and whether a run has reached them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from benchmarks.cases.case import FLOOR, PUSH
from benchmarks.cases.crowd import WITH_TIMEOUT
from benchmarks.cases.stop import ONE, tasks_condition
from benchmarks.cases.streams import (
    CONNECTIONS,
    PAUSED,
    RESULT,
    XREAD,
    crowd_condition,
    finished_condition,
    readers_condition,
    streams_condition,
)
from benchmarks.cases.sync import SHIM
from benchmarks.cases.throughput import DRIVER
from benchmarks.figures import Results
from benchmarks.stats import Ratio, median

Measured = Callable[[Results], "Ratio | None"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    Attributes:
        figure: what is measured.
        target: in words.
        limit: the number in it.
        at_least: whether the measured value is to reach the limit, or to stay below it.
        measured: gives the value and its spread over the repetitions, ``None`` where the run has not measured it.
        unit: of the value; empty for a ratio.
    """

    figure: str
    target: str
    limit: float
    at_least: bool
    measured: Measured
    unit: str = ""

    def met(self, value: Ratio) -> bool:
        """Return whether the median is on the right side of the limit."""
        return value.median >= self.limit if self.at_least else value.median <= self.limit


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A target, what was measured, and what that means."""

    figure: str
    target: str
    measured: str
    verdict: str


def _ratio(contestant: str, other: str, **wanted: str) -> Measured:
    return lambda results: results.ratio(contestant, other, **wanted)


def _absolute(contestant: str, **wanted: str) -> Measured:
    def measured(results: Results) -> Ratio | None:
        figure = results.find(contestant=contestant, **wanted)
        if figure is None:
            return None
        return Ratio(median=figure.median, low=min(figure.values), high=max(figure.values))

    return measured


def _difference(contestant: str, other: str, **wanted: str) -> Measured:
    def measured(results: Results) -> Ratio | None:
        mine, theirs = results.find(contestant=contestant, **wanted), results.find(contestant=other, **wanted)
        if mine is None or theirs is None:
            return None
        values = [a - b for a, b in zip(mine.values, theirs.values, strict=True)]
        return Ratio(median=median(values), low=min(values), high=max(values))

    return measured


def _while_waiting(results: Results) -> Ratio | None:
    """Return the commands per waiter-second of the largest number of waiters."""
    figures = results.select(case="load", store="redis", contestant=PUSH, metric="commands sent")
    if not figures:
        return None
    figure = max(figures, key=lambda one: one.n)
    values = [value / figure.n for value in figure.values]
    return Ratio(median=median(values), low=min(values), high=max(values))


def _wake(store: str) -> dict[str, str]:
    return {"case": "wake", "store": store, "condition": "1 waiter", "metric": "p50"}


def _crowd(metric: str) -> dict[str, str]:
    return {"case": "crowd", "store": "redis", "condition": "100,000 waiters", "metric": metric}


def _many(case: str, store: str) -> dict[str, str]:
    return {"case": case, "store": store, "condition": "concurrency 1,000", "metric": "per second"}


def _stream(condition: str, metric: str, store: str = "redis") -> dict[str, str]:
    return {"case": "streams", "store": store, "condition": condition, "metric": metric}


TARGETS: Final = (
    Target(
        figure="Redis wake p50, one waiter, against the floor",
        target="<= 1.25 x",
        limit=1.25,
        at_least=False,
        measured=_ratio(PUSH, FLOOR, **_wake("redis")),
    ),
    Target(
        figure="Redis wake p50, one waiter, against Celery's client",
        target="<= 1/3 x",
        limit=1 / 3,
        at_least=False,
        measured=_ratio(PUSH, "Celery", **_wake("redis")),
    ),
    Target(
        figure="Redis deliveries/s, 100,000 waiters, against the floor",
        target=">= 0.8 x",
        limit=0.8,
        at_least=True,
        measured=_ratio(PUSH, FLOOR, **_crowd("deliveries per second")),
    ),
    Target(
        figure="the same with a timeout on every get",
        target=">= 0.7 x",
        limit=0.7,
        at_least=True,
        measured=_ratio(WITH_TIMEOUT, FLOOR, **_crowd("deliveries per second")),
    ),
    Target(
        figure="memory per pending waiter, 100,000 waiters",
        target="<= 2 KiB",
        limit=2048,
        at_least=False,
        measured=_absolute(PUSH, **_crowd("memory per waiter")),
        unit="B",
    ),
    Target(
        figure="ready get(), concurrency 1,000, against pooled redis-py GET",
        target=">= 8 x",
        limit=8,
        at_least=True,
        measured=_ratio(PUSH, DRIVER["redis"], **_many("ready", "redis")),
    ),
    Target(
        figure="Redis store, concurrency 1,000, against one redis-py pipeline per result",
        target=">= 4 x",
        limit=4,
        at_least=True,
        measured=_ratio(PUSH, DRIVER["redis"], **_many("store", "redis")),
    ),
    Target(
        figure="PostgreSQL store, concurrency 1,000, against one asyncpg commit per result",
        target=">= 10 x",
        limit=10,
        at_least=True,
        measured=_ratio(PUSH, DRIVER["postgresql"], **_many("store", "postgresql")),
    ),
    Target(
        figure="PostgreSQL wake p50 against the raw driver",
        target="<= 1.5 x",
        limit=1.5,
        at_least=False,
        measured=_ratio(PUSH, FLOOR, **_wake("postgresql")),
    ),
    Target(
        figure="MongoDB wake p50 against the raw driver",
        target="<= 1.5 x",
        limit=1.5,
        at_least=False,
        measured=_ratio(PUSH, FLOOR, **_wake("mongodb")),
    ),
    Target(
        figure="SQLite wake p50, two processes",
        target="<= 3 ms",
        limit=3,
        at_least=False,
        measured=_absolute(PUSH, **_wake("sqlite")),
        unit="ms",
    ),
    Target(
        figure="SQLite wake p50 against Celery's client",
        target="<= 1/50 x",
        limit=1 / 50,
        at_least=False,
        measured=_ratio(PUSH, "Celery", **_wake("sqlite")),
    ),
    Target(
        figure="sync shim over async, wake p50",
        target="<= 0.2 ms",
        limit=0.2,
        at_least=False,
        measured=_difference(SHIM, PUSH, case="sync", store="redis", condition="wake, 1 waiter", metric="p50"),
        unit="ms",
    ),
    Target(
        figure="sync shim over async, p50 of get() of a finished task",
        target="<= 0.2 ms",
        limit=0.2,
        at_least=False,
        measured=_difference(
            SHIM, PUSH, case="sync", store="redis", condition="get() of a finished task", metric="p50"
        ),
        unit="ms",
    ),
    Target(
        figure="commands per waiter-second while nothing happens, probe and fallback included",
        target="<= 0.002",
        limit=0.002,
        at_least=False,
        measured=_while_waiting,
        unit="1/s",
    ),
    Target(
        figure="Redis stream, append to item p50, one reader, against the floor",
        target="<= 2.5 x",
        limit=2.5,
        at_least=False,
        measured=_ratio(PUSH, FLOOR, **_stream(readers_condition(1), "p50")),
    ),
    Target(
        figure="the same against redis-py's XREAD BLOCK",
        target="<= 1 x",
        limit=1,
        at_least=False,
        measured=_ratio(PUSH, XREAD, **_stream(readers_condition(1), "p50")),
    ),
    Target(
        figure="Redis streams, items/s of 500 streams at once, against the floor",
        target=">= 0.35 x",
        limit=0.35,
        at_least=True,
        measured=_ratio(PUSH, FLOOR, **_stream(streams_condition(500), "items per second")),
    ),
    Target(
        figure="connections of 10,000 readers of streams and a producer",
        target="<= 4",
        limit=4,
        at_least=False,
        measured=_absolute(PUSH, **_stream(crowd_condition(10_000), CONNECTIONS)),
        unit="connections",
    ),
    Target(
        figure="memory per idle reader of a stream, 10,000 readers",
        target="<= 3 KiB",
        limit=3072,
        at_least=False,
        measured=_absolute(PUSH, **_stream(crowd_condition(10_000), "memory per reader")),
        unit="B",
    ),
    Target(
        figure="items/s to a reader of a finished stream of 10,000 items",
        target=">= 200,000",
        limit=200_000,
        at_least=True,
        measured=_absolute(PUSH, **_stream(finished_condition(10_000), "items per second")),
        unit="1/s",
    ),
    *(
        Target(
            figure=f"{name} stream, append to item p50, against the wake-up of a result",
            target="<= 1.5 x",
            limit=1.5,
            at_least=False,
            measured=_ratio(PUSH, RESULT, **_stream(PAUSED, "p50", store)),
        )
        for store, name in (("postgresql", "PostgreSQL"), ("mongodb", "MongoDB"), ("sqlite", "SQLite"))
    ),
    Target(
        figure="Redis, revoke to cancelled coroutine p50, against the wake-up of a result",
        target="<= 1.5 x",
        limit=1.5,
        at_least=False,
        measured=_ratio(PUSH, RESULT, case="stop", store="redis", condition=ONE, metric="p50"),
    ),
    Target(
        figure="CPU of a process with 10,000 running tasks while nothing happens",
        target="<= 1 % of a core",
        limit=1,
        at_least=False,
        measured=_absolute(
            PUSH, case="stop", store="redis", condition=tasks_condition(10_000), metric="CPU while idle"
        ),
        unit="%",
    ),
)


def judge(results: Results) -> list[Verdict]:
    """Return the verdict on each target."""
    verdicts = []
    for target in TARGETS:
        value = target.measured(results)
        if value is None:
            measured, verdict = "-", "not measured"
        else:
            measured, verdict = _shown(value, target.unit), "met" if target.met(value) else "missed"
        verdicts.append(Verdict(figure=target.figure, target=target.target, measured=measured, verdict=verdict))
    return verdicts


def _shown(value: Ratio, unit: str) -> str:
    suffix = f" {unit}" if unit and unit != "1/s" else "" if unit else " x"
    return f"{value.median:.3g}{suffix} ({value.low:.3g} to {value.high:.3g})"
