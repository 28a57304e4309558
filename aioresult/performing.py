"""Calling a task: a coroutine function, a plain function in a thread, or a generator function of either kind.

Also limits how many tasks of a runner run at a time.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, aclosing, closing, nullcontext
from contextvars import copy_context
from typing import Any

from aioresult import states
from aioresult.emitting import Emitter
from aioresult.recording import Outcome, cancelled

Call = functools.partial[Any]


async def perform(call: Call, emitter: Emitter, executor: Executor | None) -> Outcome:
    """Run ``call`` and return how it ended; what it yields goes to ``emitter``.

    Raises:
        BaseException: what a coroutine raised. What a thread raised is in the outcome.
    """
    if _is(inspect.isasyncgenfunction, call):
        async with aclosing(call()) as items:
            async for item in items:
                await emitter.send(item)
        return Outcome(states.SUCCESS, None)
    if _is(inspect.iscoroutinefunction, call):
        return Outcome(states.SUCCESS, await call())
    plain = functools.partial(_exhaust, call, emitter) if _is(inspect.isgeneratorfunction, call) else call
    loop = asyncio.get_running_loop()
    outcome = await loop.run_in_executor(executor, copy_context().run, _outcome_of, plain)
    if outcome.state == states.SUCCESS and inspect.isawaitable(outcome.value):
        return Outcome(states.SUCCESS, await outcome.value)
    return outcome


def _is(kind: Callable[[object], bool], call: Call) -> bool:
    return kind(call) or kind(type(call.func).__call__)


def _outcome_of(call: Callable[[], Any]) -> Outcome:
    """Run ``call``, in a thread of the executor."""
    try:
        return Outcome(states.SUCCESS, call())
    except asyncio.CancelledError:
        return cancelled()
    except BaseException as exc:  # noqa: BLE001  (the task's own: it must not end the loop that waits for this thread)
        return Outcome(states.FAILURE, exc)


def _exhaust(call: Call, emitter: Emitter) -> Any:
    """Emit everything that a plain generator yields, and return what it returns."""
    with closing(call()) as items:
        while True:
            try:
                item = next(items)
            except StopIteration as end:
                return end.value
            emitter.emit(item)


class Slots:
    """A limit of running tasks for each event loop, since a runner may be used in one loop after the other.

    Args:
        limit: how many tasks may run at a time; ``None`` for any number.
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"max_running is a positive number of tasks, or None for any number, not {limit!r}")
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free: asyncio.Semaphore

    def slot(self) -> AbstractAsyncContextManager[None]:
        """Return the context in which a task runs; entering it waits for a free slot."""
        if self._limit is None:
            return nullcontext()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._free = loop, asyncio.Semaphore(self._limit)
        return self._free
