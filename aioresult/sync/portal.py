"""The portal: one event loop in a daemon thread, in which the coroutines of all blocking callers run.

It starts at the first call, afresh in a forked child, and ends with the interpreter, closing every connection that was
opened in it. Waiting threads share its connections, so that 64 of them cost no more than 64 tasks do.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from aioresult.errors import AioResultError, ResultTimeout, TaskRevokedError, WouldBlockLoop
from aioresult.sync.errors import as_celerys

P = ParamSpec("P")
T = TypeVar("T")

_LONGEST_GOODBYE: Final = 5.0
"""Seconds that the end of the interpreter waits for connections to close."""
_END: Final = object()


class _Portal:
    """One loop in one thread."""

    def __init__(self) -> None:
        self._loop: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._stop: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._serve, name="aioresult portal", daemon=True)
        self._thread.start()
        self._loop.result()

    def _serve(self) -> None:
        try:
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(self._until_stopped())
            finally:
                loop.close()
        except BaseException as exc:
            if self._loop.done():
                raise
            self._loop.set_exception(exc)  # raised in the thread that starts the portal

    async def _until_stopped(self) -> None:
        """Serve until told to end; then do what ``asyncio.run`` does, but start no thread for it while Python exits."""
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._stop = stopped.set
        self._loop.set_result(loop)
        await stopped.wait()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await loop.shutdown_asyncgens()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start ``coroutine`` in the portal's loop, with the caller's context variables."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop.result())
        except RuntimeError as exc:  # the loop is closed
            coroutine.close()
            raise AioResultError("the interpreter is exiting: no results can be asked for any more") from exc

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Schedule a call in the portal's loop, as long as that runs."""
        with suppress(RuntimeError):
            self._loop.result().call_soon_threadsafe(callback, *args)

    def end(self) -> None:
        """Cancel what still runs, close the backends that were used in the loop, and end its thread."""
        loop = self._loop.result()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._stop)
            self._thread.join(_LONGEST_GOODBYE)


# --- one per process ---

_portal: _Portal | None = None
_lock = threading.Lock()
_ended = False
_followed = False
_inherited: Final[list[object]] = []


def _get_portal() -> _Portal:
    global _portal  # noqa: PLW0603  (one for each process)
    portal = _portal
    if portal is not None:
        return portal
    with _lock:
        if _portal is None:
            _follow_the_process()
            _portal = _Portal()
        return _portal


def _follow_the_process() -> None:
    global _followed  # noqa: PLW0603  (a registration with the interpreter, which is process-wide)
    if not _followed:
        _followed = True
        atexit.register(_end_with_the_interpreter)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_start_afresh)


def _start_afresh() -> None:
    """Forget, in a forked child, the portal: its thread is not here, and its loop must be neither used nor closed."""
    global _portal, _lock  # noqa: PLW0603
    _inherited.append(_portal)
    _portal = None
    _lock = threading.Lock()


def _end_with_the_interpreter() -> None:
    global _ended  # noqa: PLW0603
    _ended = True
    if _portal is not None:
        _portal.end()


# --- what the facade calls ---


def refuse_to_block_a_loop() -> None:
    """Raise ``WouldBlockLoop`` in a thread that runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WouldBlockLoop(
        "aioresult.sync would block the event loop that runs in this thread: await the same name from aioresult "
        "instead, or hand the blocking code to a thread, as by asyncio.to_thread()"
    )


def run(fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a coroutine function in the portal and return its value; an interrupted caller cancels it.

    Raises:
        WouldBlockLoop: this thread runs an event loop.
    """
    refuse_to_block_a_loop()
    return _outcome(_get_portal().submit(fn(*args, **kwargs)))


def run_anywhere(fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Do the same as ``run``, also in a thread that runs an event loop, which it blocks: for one round trip at most."""
    return _outcome(_get_portal().submit(fn(*args, **kwargs)))


def start() -> None:
    """Start the portal, unless it runs already."""
    _get_portal()


def call_soon(callback: Callable[..., object], *args: Any) -> None:
    """Call ``callback`` in the portal's loop, without waiting for it; not at all where no portal runs.

    Only schedules the call, takes no lock and starts nothing, and therefore may be used wherever the garbage collector
    runs.
    """
    if _portal is not None:
        _portal.call_soon(callback, *args)


def iterate(
    fn: Callable[[], AsyncIterator[T]],
    *,
    interval: float | None = None,
    on_interval: Callable[[], object] | None = None,
) -> Iterator[T]:
    """Iterate in this thread what ``fn()`` yields in the portal.

    An iterator that is dropped half-way needs no closing: the loop finishes asynchronous generators that nobody holds.

    Args:
        fn: makes the asynchronous iterator.
        interval: how often to call ``on_interval`` while waiting, in seconds.
        on_interval: called in this thread.
    """
    refuse_to_block_a_loop()
    portal = _get_portal()
    source = fn()

    async def step() -> Any:
        return await anext(source, _END)

    while (item := _outcome(portal.submit(step()), interval, on_interval)) is not _END:
        yield item


def _outcome(
    future: concurrent.futures.Future[T], interval: float | None = None, on_interval: Callable[[], object] | None = None
) -> T:
    try:
        while on_interval is not None and not concurrent.futures.wait([future], interval).done:
            on_interval()
        return future.result()
    except concurrent.futures.CancelledError as exc:
        if _ended:  # a thread that waits when the interpreter exits ends with it, quietly
            raise SystemExit from exc
        raise AioResultError("the wait was cancelled within the portal") from exc
    except (ResultTimeout, TaskRevokedError) as exc:
        raise as_celerys(exc) from exc.__cause__
    except BaseException:
        future.cancel()  # the caller was interrupted; harmless where this is the coroutine's own exception
        raise
    finally:
        del future  # its exception's traceback leads here: leave no cycle behind
