"""The threads that talk to brokers: Celery's publishing blocks, and must not block an event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

_MOST_THREADS: Final = 4
"""Publishing mostly uses the processor. A few threads are enough for one slow broker not to delay the others."""


class Publisher:
    """Up to ``_MOST_THREADS`` threads, started as they are needed; daemons, so that no exit waits for a broker."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def submit(self, fn: Callable[[], T]) -> Future[T]:
        """Call ``fn`` in one of the threads, with the caller's context variables; not if it is cancelled in time."""
        future: Future[T] = Future()
        context = copy_context()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    value = context.run(fn)
                except BaseException as exc:  # noqa: BLE001  (handed to the caller that awaits it)
                    future.set_exception(exc)
                else:
                    future.set_result(value)

        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._threads < _MOST_THREADS:
                self._threads += 1
                name = f"aioresult {self._role} {self._threads}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._calls.put(call)
        return future

    def _serve(self) -> None:
        while True:
            self._calls.get()()
            with self._lock:
                self._idle += 1


_publishers: Final[dict[tuple[int, str], Publisher]] = {}


def get_publisher(role: str) -> Publisher:
    """Return this process's threads for one purpose; a forked child has none of its parent's, and gets its own."""
    key = os.getpid(), role
    return _publishers.get(key) or _publishers.setdefault(key, Publisher(role))
