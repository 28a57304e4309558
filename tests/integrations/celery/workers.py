"""Celery workers as processes of their own, and applications that leave no connection behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import kombu.pools
import redis
from celery import Celery
from redis.sentinel import SentinelConnectionPool

from aioresult.integrations.celery.plugin import AioResultBackend
from aioresult.sync.portal import run_anywhere
from tests.integrations.celery.tasks import ENVIRONMENT, READY, make_app
from tests.preloaded import Forked, preloaded
from tests.servers.process import ServerFailed

ROOT = Path(__file__).parents[3]
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0


class Worker:
    """One worker, started on entry unless it is already, which ends with the ``with`` block.

    Args:
        pool: solo, prefork, threads or gevent.
        concurrency: how many tasks it runs at a time.
        settings: as for ``make_app``.
    """

    def __init__(self, *, pool: str = "solo", concurrency: int = 1, **settings: Any) -> None:
        self.settings = settings
        self._patches = pool == "gevent"  # before anything else is imported
        self._arguments = ["-A", make_app.__module__, "worker", "--loglevel", "INFO", "--pool", pool]
        self._arguments += ["--concurrency", str(concurrency)]
        self._arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._ready: int | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def start(self) -> None:
        """Start the process without waiting for it."""
        self._ready, told = os.pipe()
        try:
            self._process = self._new_interpreter(told) if self._patches else self._forked(told)
        finally:
            os.close(told)

    def _forked(self, told: int) -> Forked:
        log = self._log.fileno()
        with Path(os.devnull).open("rb") as nothing:
            descriptors = [nothing.fileno(), log, log, told]
            return preloaded().start("celery", self._arguments, self._environment(descriptors.index(told)), descriptors)

    def _new_interpreter(self, told: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", *self._arguments],
            cwd=ROOT,
            env=self._environment(told),
            pass_fds=[told],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _environment(self, told: int) -> dict[str, str]:
        return {**os.environ, ENVIRONMENT: json.dumps(self.settings), READY: str(told), "C_FORCE_ROOT": "1"}

    def wait(self) -> None:
        """Wait until it takes tasks."""
        assert self._ready is not None
        readable, _, _ = select.select([self._ready], [], [], START_TIMEOUT)
        if not readable or os.read(self._ready, 1) != b"!":
            raise ServerFailed(f"the worker does not start:\n{self.log[-4000:]}")

    def kill(self) -> None:
        """Kill the worker and all its children at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End it, at once since what it still runs is of no interest any more."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None
        self._log.close()

    def stop(self) -> None:
        """Ask it to end, as an operator does, and wait for that."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOP_TIMEOUT)

    def __enter__(self) -> Self:
        try:
            if self._process is None:
                self.start()
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@contextmanager
def application(**settings: Any) -> Iterator[Celery]:
    """Yield an application of the test process's own, and close what it has opened."""
    app = make_app(**settings)
    try:
        yield app
    finally:
        close(app)


def close(app: Celery) -> None:
    """Close an application's connections to its broker and its result store."""
    backend = app._backend
    consumer = getattr(backend, "result_consumer", None)
    if consumer is not None:
        backend.remove_pending_result = lambda result: result  # results that are collected later would reconnect
        consumer.stop()
        if hasattr(backend, "client"):  # rpc:// has none
            disconnect(backend.client)
    if getattr(backend, "_connection", None) is not None:
        backend._connection.close()
    if isinstance(backend, AioResultBackend):
        run_anywhere(backend._async.aclose)
    published = app._pool is not None
    app.close()
    if published:
        kombu.pools.reset()  # type: ignore[no-untyped-call]  # shared by all applications with the same broker


def disconnect(client: redis.Redis) -> None:
    """Close the connections of a client that Celery made: it gives each one a pool, which ``close()`` then leaves open.

    What is left open is closed by whichever finalizer runs first: the connection's, silently, or the socket's own.
    """
    pool = client.connection_pool
    pool.disconnect()
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            sentinel.close()
