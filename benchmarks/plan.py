"""The sizes of a run."""

from __future__ import annotations

from typing import Final

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a run.

    Attributes:
        repetitions: how many turns each contestant has; contestants take turns.
        heavy_repetitions: the same in crowd, fan and load, whose turns are long.
        wakes: wake-ups of one turn on Redis, for contestants that do not poll.
        slow_wakes: the same on the other stores.
        polled_wakes: the same for contestants that poll: each takes half an interval on average, and as much before.
        others: how many waiters are pending beside the measured one.
        crowds: numbers of waiters in one process; ``small_crowds`` where the store is not Redis.
        idle: seconds during which nothing happens, to count commands.
        reads, writes: operations of one turn, at concurrency 1 and at ``concurrency``.
        concurrency: how many ``reads`` and ``writes`` run at the same time.
        members: how many members the group has that is joined.
        calls, threads: blocking calls of one turn, and threads that make them.
        waiters: numbers of waiters whose load on the server is measured.
        window: seconds over which that load is measured.
        processes: numbers of consumers on one store.
        fan_results: results that all of these get together.
        readers: numbers of readers of one stream.
        items: items of one turn for one of these; more readers get fewer.
        streams: how many are read at once, and how many items each of them gets.
        finished: items of the stream that is read when it is over.
        reader_crowds: numbers of idle readers of a stream each.
        running: numbers of tasks that run in one process.
        browsers: numbers of streams of events that are open in one process.
        others_elsewhere: whether wake-ups with ``others`` are measured on other stores than Redis.
        elsewhere: the cases that are measured on other stores than Redis.
        peers: other libraries that take part by default.
    """

    repetitions: int
    heavy_repetitions: int
    wakes: int
    slow_wakes: int
    polled_wakes: int
    others: int
    crowds: tuple[int, ...]
    small_crowds: tuple[int, ...]
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
    readers: tuple[int, ...]
    items: int
    streams: tuple[int, int]
    finished: int
    reader_crowds: tuple[int, ...]
    running: tuple[int, ...]
    browsers: tuple[int, ...]
    others_elsewhere: bool
    elsewhere: tuple[str, ...]
    peers: tuple[str, ...]


QUICK: Final = Plan(
    repetitions=3,
    heavy_repetitions=2,
    wakes=80,
    slow_wakes=30,
    polled_wakes=3,
    others=1000,
    crowds=(100_000,),
    small_crowds=(1000,),
    idle=0.5,
    reads=(300, 5000),
    writes=(300, 5000),
    concurrency=1000,
    members=10_000,
    calls=60,
    threads=64,
    waiters=(10, 1000),
    window=1.0,
    processes=(1, 4),
    fan_results=8000,
    readers=(1, 10, 100),
    items=300,
    streams=(500, 20),
    finished=10_000,
    reader_crowds=(10_000,),
    running=(10_000,),
    browsers=(1000,),
    others_elsewhere=False,
    elsewhere=("wake", "store", "streams", "stop"),
    peers=("celery",),
)

FULL: Final = Plan(
    repetitions=3,
    heavy_repetitions=2,
    wakes=300,
    slow_wakes=100,
    polled_wakes=7,
    others=1000,
    crowds=(1, 100, 10_000, 100_000),
    small_crowds=(1, 100, 10_000),
    idle=2.0,
    reads=(1000, 20_000),
    writes=(1000, 20_000),
    concurrency=1000,
    members=10_000,
    calls=300,
    threads=64,
    waiters=(1, 100, 1000, 10_000),
    window=2.0,
    processes=(1, 2, 4, 8),
    fan_results=16_000,
    readers=(1, 10, 100, 1000),
    items=1000,
    streams=(500, 40),
    finished=10_000,
    reader_crowds=(1000, 10_000),
    running=(1000, 10_000),
    browsers=(5000,),
    others_elsewhere=True,
    elsewhere=("wake", "crowd", "ready", "store", "group", "load", "fan", "streams", "stop"),
    peers=("all",),
)

TINY: Final = Plan(
    repetitions=2,
    heavy_repetitions=1,
    wakes=4,
    slow_wakes=2,
    polled_wakes=2,
    others=5,
    crowds=(20,),
    small_crowds=(5,),
    idle=0.1,
    reads=(3, 20),
    writes=(3, 20),
    concurrency=10,
    members=20,
    calls=3,
    threads=2,
    waiters=(5,),
    window=0.2,
    processes=(2,),
    fan_results=20,
    readers=(1, 3),
    items=4,
    streams=(5, 2),
    finished=20,
    reader_crowds=(20,),
    running=(20,),
    browsers=(20,),
    others_elsewhere=True,
    elsewhere=("wake", "crowd", "ready", "store", "group", "load", "fan", "streams", "stop"),
    peers=(),
)
"""Just enough to run every line once; its figures mean nothing."""

PLANS: Final = {"quick": QUICK, "full": FULL, "tiny": TINY}
