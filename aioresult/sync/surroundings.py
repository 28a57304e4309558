"""How a caller waits, and where the portal's loop runs: with ordinary threads, or in a process that gevent has patched.

gevent makes ``threading.Thread`` a greenlet of the thread that starts it, and its locks suspend greenlets. Therefore
the portal needs a real thread there, or its loop would run in a thread of the application. A caller that waits must let
the other greenlets of its thread run. Inside the portal's thread, gevent works as usual: the hub of that thread serves
the loop's selector, the drivers' sockets and the greenlets that drivers start as threads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from aioresult.errors import Unsupported
from aioresult.patches import original, patched_by_gevent

P = ParamSpec("P")
T = TypeVar("T")

Call = Callable[[], object]

_LONG: Final = 3600.0
"""Seconds after which a greenlet that waits without a limit renews its wait."""


class Signal(Protocol):
    """Wakes one caller, once, when the event that it waits for has happened."""

    def set(self) -> None:
        """Wake the caller; callable from any thread."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds, in the thread that made the signal, and return whether it was set."""


class Threads:
    """A process with ordinary threads."""

    def signal(self) -> Signal:
        """Return a signal for the caller."""
        return threading.Event()

    def start_thread(self, target: Call) -> None:
        """Call ``target`` in a new real thread, which is a daemon."""
        _start_thread(target, "aioresult portal")

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop for the present thread."""
        loop = asyncio.new_event_loop()
        loop.set_default_executor(_Executor(partial(_start_thread, name="aioresult call")))
        return loop

    def background(self, purpose: str, most: int) -> Callable[[Call], object]:
        """Return a function that can be called in any thread; it schedules a call in a thread where it may block.

        There are up to ``most`` threads for one purpose.
        """
        return get_pool(purpose, most).put


def _start_thread(target: Call, name: str) -> None:
    threading.Thread(target=target, name=name, daemon=True).start()


class Pool:
    """Up to ``most`` threads for one purpose, started when needed; daemons, so that the exit does not wait for them."""

    def __init__(self, purpose: str, most: int) -> None:
        self._purpose = purpose
        self._most = most
        self._calls: SimpleQueue[Call] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def put(self, call: Call) -> None:
        """Schedule ``call``, which must not raise, in one of the threads."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._threads < self._most:
                self._threads += 1
                _start_thread(self._serve, f"aioresult {self._purpose} {self._threads}")
        self._calls.put(call)

    def _serve(self) -> None:
        while True:
            self._calls.get()()
            with self._lock:
                self._idle += 1


_pools: Final[dict[tuple[int, str], Pool]] = {}


def get_pool(purpose: str, most: int) -> Pool:
    """Return this process's threads for one purpose; a forked child gets its own."""
    key = os.getpid(), purpose
    return _pools.get(key) or _pools.setdefault(key, Pool(purpose, most))


class Greenlets:
    """The same in a process that gevent has patched."""

    def signal(self) -> Signal:
        return _GreenletSignal()

    def start_thread(self, target: Call) -> None:
        import gevent

        gevent.get_hub()  # the first hub of a process imports modules, which must not happen in two threads at once
        original("_thread", "start_new_thread")(target, ())

    def new_loop(self) -> asyncio.AbstractEventLoop:
        import gevent

        loop = asyncio.SelectorEventLoop()  # uses gevent's selector; another kind of loop would block the thread's hub
        loop.set_default_executor(_Executor(gevent.spawn))
        return loop

    def background(self, purpose: str, most: int) -> Callable[[Call], object]:
        del purpose, most  # each call gets a greenlet of this thread
        import gevent

        loop = gevent.get_hub().loop
        return lambda call: loop.run_callback_threadsafe(gevent.spawn, call)


class _GreenletSignal:
    """Suspends a greenlet, and lets the others of its thread run.

    There is always a timer: without one, a hub that has nothing else to do would report a deadlock.
    """

    def __init__(self) -> None:
        import gevent
        from gevent.event import Event

        self._loop = gevent.get_hub().loop
        self._event = Event()

    def set(self) -> None:
        self._loop.run_callback_threadsafe(self._event.set)

    def wait(self, timeout: float | None = None) -> bool:
        while not self._event.wait(_LONG if timeout is None else timeout):
            if timeout is not None:
                return False
        return True


class _Executor(ThreadPoolExecutor):
    """Runs each call that would block the portal's loop in a thread or greenlet of its own. Such calls are few.

    Python's own executors are the first to end when the interpreter exits, but drivers may still look up an address
    while they close.
    """

    def __init__(self, start: Callable[[Call], object]) -> None:
        super().__init__()
        self._start = start

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        call = partial(fulfil, future, partial(fn, *args, **kwargs))
        try:
            self._start(call)
        except RuntimeError:  # since 3.12, no thread can be started during exit: then the loop must wait
            call()
        return future


def fulfil(future: Future[T], fn: Callable[[], T]) -> None:
    """Call ``fn`` and give ``future`` its outcome; do not call it if the future was cancelled before."""
    if future.set_running_or_notify_cancel():
        try:
            value = fn()
        except BaseException as exc:  # noqa: BLE001  (raised where the future is awaited)
            future.set_exception(exc)
        else:
            future.set_result(value)


_THREADS: Final = Threads()
_GREENLETS: Final = Greenlets()


def surroundings() -> Threads | Greenlets:
    """Return how this process runs threads.

    Raises:
        Unsupported: eventlet has patched it.
    """
    if patched_by_gevent():
        return _GREENLETS
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise Unsupported(
            "eventlet has patched this process, and neither aioresult.sync nor the result backend aioresult for Celery "
            "works there: eventlet is hardly maintained any more; use gevent (celery worker -P gevent), or threads "
            "(-P threads)"
        )
    return _THREADS
