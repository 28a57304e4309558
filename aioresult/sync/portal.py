"""The portal: one event loop in a daemon thread, in which the coroutines of all blocking callers run.

It starts at the first call, and afresh in a forked child. It ends with the interpreter, and then closes every
connection that was opened in it. Waiting threads share its connections, so 64 threads cost no more than 64 tasks.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Final, Generic, ParamSpec, TypeVar

from aioresult import forks
from aioresult.errors import AioResultError, ResultTimeout, TaskRevokedError, WouldBlockLoop
from aioresult.sync.errors import as_celerys
from aioresult.sync.notebooks import in_a_cell
from aioresult.sync.surroundings import Signal, surroundings

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST_END: Final = 5.0
"""Seconds that the interpreter's exit waits for connections to close."""
_END: Final = object()


class _Call(Generic[T]):
    """One coroutine that runs in the portal, for one caller that waits for it.

    Attributes:
        task: the coroutine's task, from ``begin`` on.
        done: wakes the caller at the coroutine's end.
    """

    task: asyncio.Task[T] | None = None

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self.done = surroundings().signal()

    def begin(self) -> None:
        """Start the coroutine, with the caller's context variables; called in the portal's loop."""
        self.task = asyncio.get_running_loop().create_task(self._coroutine)
        self.task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # marks it as retrieved, even if the caller was interrupted
        self.done.set()

    def cancel(self) -> None:
        """Cancel the coroutine, unless it has ended or was never started; called in the portal's loop."""
        if self.task is None:
            self._coroutine.close()
        else:
            self.task.cancel()

    def result(self) -> T:
        """Return the coroutine's value, or raise its exception, after its end."""
        assert self.task is not None  # noqa: S101  (it has ended, so it was started)
        return self.task.result()


class _Portal:
    """One loop in one thread."""

    def __init__(self) -> None:
        self._surroundings = surroundings()
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self._started = False
        self._failure: BaseException | None = None
        self._starting: list[Signal] = []
        self._ended: Signal | None = None
        self._surroundings.start_thread(self._serve)

    def _serve(self) -> None:
        try:
            loop = self._loop = self._surroundings.new_loop()
            try:
                loop.run_until_complete(self._until_stopped())
            finally:
                loop.close()
        except BaseException as exc:
            if self._started:
                raise
            self._failure = exc
            self._tell_that_it_has_started()
        finally:
            if self._ended is not None:
                self._ended.set()

    def _tell_that_it_has_started(self) -> None:
        self._started = True
        for signal in list(self._starting):
            signal.set()

    async def _until_stopped(self) -> None:
        """Serve until ``end``; then end as ``asyncio.run`` does, but start no thread while Python exits."""
        self._stopped = asyncio.Event()
        self._tell_that_it_has_started()
        await self._stopped.wait()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def wait_until_it_runs(self) -> None:
        """Wait for the loop.

        Raises:
            AioResultError: the thread or its loop could not be made.
        """
        if not self._started:
            started = self._surroundings.signal()
            self._starting.append(started)
            if not self._started:  # it may have started meanwhile
                started.wait()
        if self._failure is not None:
            raise AioResultError(f"the thread for blocking calls cannot run: {self._failure}") from self._failure

    def submit(self, call: _Call[T]) -> None:
        """Begin ``call`` in the running loop of the portal, with the caller's context variables."""
        try:
            self._loop.call_soon_threadsafe(call.begin)
        except RuntimeError as exc:  # the loop is closed
            call.cancel()
            raise AioResultError("the interpreter is exiting: no results can be asked for any more") from exc

    def end(self) -> None:
        """Cancel what still runs, close the backends that were used in the loop, and end its thread."""
        if self._started and not self._loop.is_closed():
            self._ended = self._surroundings.signal()
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._ended.wait(_LONGEST_END)


class _Process:
    """The portal of this process. A forked child starts another, because the thread does not exist there."""

    def __init__(self) -> None:
        self.portal: _Portal | None = None
        self.exiting = False
        self._lock = threading.Lock()

    def serving(self) -> _Portal:
        """Return the portal, with a running loop."""
        portal = self.portal
        if portal is None:
            with self._lock:  # do not wait under it: a lock from before gevent's patching blocks the thread
                if self.portal is None:
                    forks.follow(self)
                    atexit.unregister(self._end)  # it may be registered already
                    atexit.register(self._end)
                    self.portal = _Portal()
                portal = self.portal
        try:
            portal.wait_until_it_runs()
        except AioResultError:
            if self.portal is portal:
                self.portal = None  # the next call tries again
            raise
        return portal

    def _start_afresh(self) -> None:
        forks.keep(self.portal)  # its loop must not be used or closed
        self.portal = None
        self._lock = threading.Lock()

    def _end(self) -> None:
        self.exiting = True
        if self.portal is not None:
            self.portal.end()


_process: Final = _Process()


# --- for the blocking API ---


def refuse_to_block_a_loop() -> None:
    """Raise ``WouldBlockLoop`` in a thread that runs an event loop, except in a cell of a notebook."""
    if asyncio._get_running_loop() is None or in_a_cell():
        return
    raise WouldBlockLoop(
        "aioresult.sync would block the event loop that runs in this thread: await the same name from aioresult "
        "instead, or hand the blocking code to a thread, as by asyncio.to_thread()"
    )


def run(fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine function in the portal and return its value; it is cancelled if the caller is interrupted.

    Raises:
        WouldBlockLoop: this thread runs an event loop.
    """
    refuse_to_block_a_loop()
    return _outcome(_process.serving(), _Call(fn(*args, **kwargs)))


def run_anywhere(fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Do the same as ``run``, even in a thread that runs an event loop, and block it: for one round trip at most."""
    return _outcome(_process.serving(), _Call(fn(*args, **kwargs)))


def start() -> None:
    """Start the portal, unless it runs already."""
    _process.serving()


def call_soon(callback: Callable[..., object], *args: Any) -> None:
    """Call ``callback`` in the portal's loop, without waiting for it; do nothing if no portal runs.

    It only schedules the call, takes no lock and starts nothing, so the garbage collector may call it anywhere.
    """
    portal = _process.portal
    if portal is not None and portal._started:
        with suppress(RuntimeError):  # the loop is closed
            portal._loop.call_soon_threadsafe(callback, *args)


def iterate(
    fn: Callable[[], AsyncIterator[T]],
    *,
    interval: float | None = None,
    on_interval: Callable[[], object] | None = None,
) -> Iterator[T]:
    """Iterate, in this thread, the values that ``fn()`` yields in the portal.

    An iterator that is dropped half-way need not be closed: the loop finishes unreferenced asynchronous generators.

    Args:
        fn: makes the asynchronous iterator.
        interval: how often to call ``on_interval`` while waiting, in seconds.
        on_interval: called in this thread.
    """
    refuse_to_block_a_loop()
    portal = _process.serving()
    source = fn()

    async def step() -> Any:
        return await anext(source, _END)

    while (item := _outcome(portal, _Call(step()), interval, on_interval)) is not _END:
        yield item
        if portal is not _process.portal:  # its thread does not run here, and a call of it would never return
            raise AioResultError(
                "this iterator belongs to the process that this one was forked from: make a new one here; "
                "stream(after=...) continues after the last item"
            )


def _outcome(
    portal: _Portal, call: _Call[T], interval: float | None = None, on_interval: Callable[[], object] | None = None
) -> T:
    try:  # the caller may be interrupted as soon as the call is submitted
        portal.submit(call)
        while not call.done.wait(None if on_interval is None else interval):
            if on_interval is not None:
                on_interval()
        return call.result()
    except asyncio.CancelledError as exc:
        if _process.exiting:  # a thread that waits at the interpreter's exit ends with it, without an error
            raise SystemExit from exc
        raise AioResultError("the blocking call was cancelled by something else in its event loop") from exc
    except (ResultTimeout, TaskRevokedError) as exc:
        raise as_celerys(exc) from exc.__cause__
    except BaseException:
        call_soon(call.cancel)  # the caller was interrupted; harmless if the exception is the coroutine's own
        raise
    finally:
        del call  # avoids a reference cycle: its exception's traceback refers to this frame
