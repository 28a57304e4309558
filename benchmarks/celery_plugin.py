"""How soon Celery's own client wakes up: stock Celery beside the plugin, on the same store, one after the other.

    python -m benchmarks.celery_plugin [--n 40] [--stores sqlite mongodb postgresql redis]

A client blocks in ``AsyncResult.get()``; a second process stores the result at a random moment, through the same kind
of backend. Measured is the time from before the call that stores to the return of ``get()``. No broker takes part.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from celery import Celery

from benchmarks.stats import quantile
from tests.servers import MongoReplicaSet, PostgresServer, RedisServer

STORES: Final = ["sqlite", "mongodb", "postgresql", "redis"]
KINDS: Final = {"stock Celery": "", "with plugin": "aioresult+"}
PATIENCE: Final = 30.0
PAUSES: Final = (0.3, 1.3)
"""Shortest and longest wait of the client, in seconds: they differ by whole polls, so that no phase is favoured."""


def make_app(url: str) -> Celery:
    app = Celery("benchmark", broker="memory://", backend=url, set_as_current=False)
    app.conf.database_trigger = False  # a setting of the plugin: both sides use it, so nothing must be polled
    return app


def store(url: str, seed: int, pipe: Connection) -> None:
    """Store a result for each id from ``pipe``: the time of storing."""
    rng = random.Random(seed)
    backend = make_app(url).backend
    backend.store_result(str(uuid.uuid4()), None, "SUCCESS")  # connect
    pipe.send("ready")
    while task_id := pipe.recv():
        time.sleep(rng.uniform(*PAUSES))
        backend.store_result(task_id, time.monotonic(), "SUCCESS")


def measure(url: str, n: int, seed: int) -> list[float]:
    """Return ``n`` wake-up latencies, in seconds."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    writer = context.Process(target=store, args=(url, seed, theirs), daemon=True)
    writer.start()
    pipe.recv()
    app = make_app(url)
    latencies: list[float] = []
    for _ in range(n + 1):
        result = app.AsyncResult(str(uuid.uuid4()))
        pipe.send(result.id)
        stored: float = result.get(timeout=PATIENCE)
        latencies.append(time.monotonic() - stored)
        result.forget()
    pipe.send("")
    writer.join()
    return latencies[1:]  # the first one connects


@contextmanager
def url_of(name: str) -> Iterator[str]:
    """Yield the URL of a private store, in Celery's spelling."""
    with ExitStack() as stack:
        if name == "redis":
            yield stack.enter_context(RedisServer()).url
        elif name == "mongodb":
            yield stack.enter_context(MongoReplicaSet()).url
        elif name == "postgresql":
            yield f"db+{stack.enter_context(PostgresServer()).url_of('test', '+psycopg')}"
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            yield f"db+sqlite:///{Path(folder) / 'results.db'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=40, help="wake-ups to measure of each kind")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=["sqlite", "mongodb"])
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"wake-up of AsyncResult.get() after store_result() in another process; milliseconds; seed {options.seed}\n")
    print(f"{'store':<12}{'client and worker':<20}{'p50':>9}{'p99':>9}{'mean':>9}{'N':>6}")
    for name in options.stores:
        with url_of(name) as url:
            for kind, prefix in KINDS.items():
                latencies = [1000 * seconds for seconds in measure(f"{prefix}{url}", options.n, options.seed)]
                p50, p99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
                mean = sum(latencies) / len(latencies)
                print(f"{name:<12}{kind:<20}{p50:>9.2f}{p99:>9.2f}{mean:>9.2f}{len(latencies):>6}", flush=True)


if __name__ == "__main__":
    main()
