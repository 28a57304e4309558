"""The targets of the hot path, each as a ratio within one run, and whether a run has reached them."""

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
from benchmarks.stats import Ratio, spread

Measured = Callable[[Results], "Ratio | None"]


class Target(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        figure: what is measured.
        target: the text after ``>=`` or ``<=``.
        limit: the number in ``target``.
        measured: returns the value and its spread over the repetitions, ``None`` if the run has not measured it.
        unit: the value's unit; empty for a ratio.
    """

    figure: str
    target: str
    limit: float
    measured: Measured
    unit: str = ""

    def met(self, value: Ratio) -> bool:
        """Return whether the median is on the right side of the limit."""
        return value.median >= self.limit if self.target.startswith(">=") else value.median <= self.limit


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A target, the measured value, and whether it was met."""

    figure: str
    target: str
    measured: str
    verdict: str


def _ratio(contestant: str, other: str, **wanted: str) -> Measured:
    return lambda results: results.ratio(contestant, other, **wanted)


def _absolute(contestant: str, **wanted: str) -> Measured:
    def measured(results: Results) -> Ratio | None:
        figure = results.find(contestant=contestant, **wanted)
        return None if figure is None else spread(figure.values)

    return measured


def _difference(contestant: str, other: str, **wanted: str) -> Measured:
    def measured(results: Results) -> Ratio | None:
        mine, theirs = results.find(contestant=contestant, **wanted), results.find(contestant=other, **wanted)
        if mine is None or theirs is None:
            return None
        return spread([a - b for a, b in zip(mine.values, theirs.values, strict=True)])

    return measured


def _while_waiting(results: Results) -> Ratio | None:
    """Return the commands per waiter-second of the largest number of waiters."""
    figures = results.select(case="load", store="redis", contestant=PUSH, metric="commands sent")
    if not figures:
        return None
    figure = max(figures, key=lambda one: one.n)
    return spread([value / figure.n for value in figure.values])


def _wake(store: str) -> dict[str, str]:
    return {"case": "wake", "store": store, "condition": "1 waiter", "metric": "p50"}


def _crowd(metric: str) -> dict[str, str]:
    return {"case": "crowd", "store": "redis", "condition": "100,000 waiters", "metric": metric}


def _many(case: str, store: str) -> dict[str, str]:
    return {"case": case, "store": store, "condition": "concurrency 1,000", "metric": "per second"}


def _stream(condition: str, metric: str, store: str = "redis") -> dict[str, str]:
    return {"case": "streams", "store": store, "condition": condition, "metric": metric}


TARGETS: Final = (
    Target("Redis wake p50, one waiter, against the floor", "<= 1.25 x", 1.25, _ratio(PUSH, FLOOR, **_wake("redis"))),
    Target(
        "Redis wake p50, one waiter, against Celery's client",
        "<= 1/3 x",
        1 / 3,
        _ratio(PUSH, "Celery", **_wake("redis")),
    ),
    Target(
        "Redis deliveries/s, 100,000 waiters, against the floor",
        ">= 0.8 x",
        0.8,
        _ratio(PUSH, FLOOR, **_crowd("deliveries per second")),
    ),
    Target(
        "the same with a timeout on every get",
        ">= 0.7 x",
        0.7,
        _ratio(WITH_TIMEOUT, FLOOR, **_crowd("deliveries per second")),
    ),
    Target(
        "memory per pending waiter, 100,000 waiters",
        "<= 2 KiB",
        2048,
        _absolute(PUSH, **_crowd("memory per waiter")),
        "B",
    ),
    Target(
        "ready get(), concurrency 1,000, against pooled redis-py GET",
        ">= 8 x",
        8,
        _ratio(PUSH, DRIVER["redis"], **_many("ready", "redis")),
    ),
    Target(
        "Redis store, concurrency 1,000, against one redis-py pipeline per result",
        ">= 4 x",
        4,
        _ratio(PUSH, DRIVER["redis"], **_many("store", "redis")),
    ),
    Target(
        "PostgreSQL store, concurrency 1,000, against one asyncpg commit per result",
        ">= 10 x",
        10,
        _ratio(PUSH, DRIVER["postgresql"], **_many("store", "postgresql")),
    ),
    Target("PostgreSQL wake p50 against the raw driver", "<= 1.5 x", 1.5, _ratio(PUSH, FLOOR, **_wake("postgresql"))),
    Target("MongoDB wake p50 against the raw driver", "<= 1.5 x", 1.5, _ratio(PUSH, FLOOR, **_wake("mongodb"))),
    Target("SQLite wake p50, two processes", "<= 3 ms", 3, _absolute(PUSH, **_wake("sqlite")), "ms"),
    Target("SQLite wake p50 against Celery's client", "<= 1/50 x", 1 / 50, _ratio(PUSH, "Celery", **_wake("sqlite"))),
    Target(
        "sync shim over async, wake p50",
        "<= 0.2 ms",
        0.2,
        _difference(SHIM, PUSH, case="sync", store="redis", condition="wake, 1 waiter", metric="p50"),
        "ms",
    ),
    Target(
        "sync shim over async, p50 of get() of a finished task",
        "<= 0.2 ms",
        0.2,
        _difference(SHIM, PUSH, case="sync", store="redis", condition="get() of a finished task", metric="p50"),
        "ms",
    ),
    Target(
        "commands per waiter-second while nothing happens, probe and fallback included",
        "<= 0.002",
        0.002,
        _while_waiting,
        "1/s",
    ),
    Target(
        "Redis stream, append to item p50, one reader, against the floor",
        "<= 2.5 x",
        2.5,
        _ratio(PUSH, FLOOR, **_stream(readers_condition(1), "p50")),
    ),
    Target(
        "the same against redis-py's XREAD BLOCK",
        "<= 1 x",
        1,
        _ratio(PUSH, XREAD, **_stream(readers_condition(1), "p50")),
    ),
    Target(
        "Redis streams, items/s of 500 streams at once, against the floor",
        ">= 0.35 x",
        0.35,
        _ratio(PUSH, FLOOR, **_stream(streams_condition(500), "items per second")),
    ),
    Target(
        "connections of 10,000 readers of streams and a producer",
        "<= 4",
        4,
        _absolute(PUSH, **_stream(crowd_condition(10_000), CONNECTIONS)),
        "connections",
    ),
    Target(
        "memory per idle reader of a stream, 10,000 readers",
        "<= 3 KiB",
        3072,
        _absolute(PUSH, **_stream(crowd_condition(10_000), "memory per reader")),
        "B",
    ),
    Target(
        "items/s to a reader of a finished stream of 10,000 items",
        ">= 200,000",
        200_000,
        _absolute(PUSH, **_stream(finished_condition(10_000), "items per second")),
        "1/s",
    ),
    *(
        Target(
            f"{name} stream, append to item p50, against the wake-up of a result",
            "<= 1.5 x",
            1.5,
            _ratio(PUSH, RESULT, **_stream(PAUSED, "p50", store)),
        )
        for store, name in (("postgresql", "PostgreSQL"), ("mongodb", "MongoDB"), ("sqlite", "SQLite"))
    ),
    Target(
        "Redis, revoke to cancelled coroutine p50, against the wake-up of a result",
        "<= 1.5 x",
        1.5,
        _ratio(PUSH, RESULT, case="stop", store="redis", condition=ONE, metric="p50"),
    ),
    Target(
        "CPU of a process with 10,000 running tasks while nothing happens",
        "<= 1 % of a core",
        1,
        _absolute(PUSH, case="stop", store="redis", condition=tasks_condition(10_000), metric="CPU while idle"),
        "%",
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
