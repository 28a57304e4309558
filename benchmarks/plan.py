"""How much of everything a run does."""

from __future__ import annotations

from typing import Final

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a run.

    Attributes:
        repetitions: how often each contestant's turn comes; contestants take turns.
        wakes: wake-ups of one turn, where the store pushes.
        polled_wakes: the same where somebody polls: each takes half an interval on average.
        others: how many waiters are pending beside the measured one.
        crowds: numbers of waiters in one process.
        idle: seconds during which nothing happens, to count commands.
        reads, writes: operations of one turn, at concurrency 1 and at ``concurrency``.
        concurrency: the many, of ``reads`` and ``writes``.
        members: of the group that is joined.
        calls, threads: blocking calls of one turn, and threads that make them.
        waiters: numbers of waiters whose load on the server is measured.
        window: seconds over which that load is measured.
        processes: numbers of consumers on one store.
        fan_results: results that all of these get, together.
        peers: whether other libraries take part.
    """

    repetitions: int
    wakes: int
    polled_wakes: int
    others: int
    crowds: tuple[int, ...]
    idle: float
    reads: tuple[int, int]
    writes: tuple[int, int]
    concurrency: int
    members: int
    calls: int
    threads: int
    waiters: tuple[int, ...]
    window: float
    processes: tuple[int, ...]
    fan_results: int
    peers: bool = True


QUICK: Final = Plan(
    repetitions=3,
    wakes=150,
    polled_wakes=8,
    others=1000,
    crowds=(1, 100, 10_000, 100_000),
    idle=1.0,
    reads=(500, 20_000),
    writes=(500, 20_000),
    concurrency=1000,
    members=10_000,
    calls=300,
    threads=64,
    waiters=(1, 10, 100, 1000),
    window=2.0,
    processes=(1, 2, 4),
    fan_results=8000,
)

FULL: Final = Plan(
    repetitions=5,
    wakes=1000,
    polled_wakes=25,
    others=1000,
    crowds=(1, 100, 10_000, 100_000),
    idle=5.0,
    reads=(2000, 100_000),
    writes=(2000, 50_000),
    concurrency=1000,
    members=10_000,
    calls=1000,
    threads=64,
    waiters=(1, 10, 100, 1000, 10_000),
    window=5.0,
    processes=(1, 2, 4, 8),
    fan_results=20_000,
)

TINY: Final = Plan(
    repetitions=2,
    wakes=4,
    polled_wakes=2,
    others=5,
    crowds=(1, 20),
    idle=0.1,
    reads=(3, 20),
    writes=(3, 20),
    concurrency=10,
    members=20,
    calls=3,
    threads=2,
    waiters=(1, 5),
    window=0.2,
    processes=(1, 2),
    fan_results=20,
    peers=False,
)
"""Just enough to run every line once; its figures mean nothing."""
