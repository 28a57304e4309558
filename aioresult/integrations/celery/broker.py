"""Calls that send something to an application's broker: made in a thread, and awaited for a limited time.

Celery's own code makes them. It blocks, so it must not run in an event loop.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Final, TypeVar

from aioresult.integrations.celery import internals
from aioresult.integrations.celery.errors import BrokerUnavailable
from aioresult.integrations.celery.protocols import App
from aioresult.sync.surroundings import fulfil, get_pool, surroundings

T = TypeVar("T")

PUBLISH_TIMEOUT: Final = 5.0
"""Seconds that the broker may take by default."""
_LOST: Final = "it was sent, but its answers are lost"
_CREDENTIALS: Final = re.compile(r"(?<=://)[^@/\s]*@")
_MOST_THREADS: Final = 4
"""Publishing mostly uses the processor. With a few threads, one slow broker does not delay the others."""


class Answers:
    """When a call that waits for answers last heard from its broker; usable from any thread.

    Args:
        pause: seconds without an answer after which the call stops waiting.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._heard: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the broker has accepted the command."""
        return self._heard is not None

    def note(self, *_: object) -> None:
        """Note that the broker has accepted the command, or that there is an answer."""
        self._heard = monotonic()

    def remaining(self, timeout: float) -> float:
        """Return how many seconds the call may still take; ``timeout`` is the broker's share."""
        return 0.0 if self._heard is None else self._heard + self._pause + timeout - monotonic()


async def hand_over(
    app: App, what: str, call: Callable[[], T], timeout: float | None, answers: Answers | None = None
) -> T:
    """Call ``call``, which blocks until the broker has accepted something, in a thread, and return its result.

    Args:
        app: the application whose broker it is.
        what: what is done; errors begin with it.
        call: called in the Celery context of this thread.
        timeout: seconds that the broker may take.
        answers: given if ``call`` then waits for answers, which it notes there; their total time is not limited. Such
            calls have threads of their own, so that they do not delay publishing.

    Raises:
        BrokerUnavailable: the broker refused the call, or took too long.
    """
    future: Future[T] = Future()
    get_pool(_purpose(answers), _MOST_THREADS).put(_fulfilling(future, app, call))
    outcome = asyncio.wrap_future(future)
    try:
        await asyncio.wait([outcome], timeout=timeout)
        while timeout is not None and answers and not future.done() and (rest := answers.remaining(timeout)) > 0:
            await asyncio.wait([outcome], timeout=rest)
        if not future.done():
            raise _unavailable(app, what, _lateness(future, timeout, answers))
        return await outcome
    except internals.PublishError as exc:
        raise _unavailable(app, what, _refusal(exc, answers)) from exc
    finally:
        outcome.cancel()  # a call that is not awaited any more does not begin


def hand_over_and_wait(app: App, what: str, call: Callable[[], T], timeout: float, answers: Answers | None = None) -> T:
    """Do the same as ``hand_over``, for a blocking caller; under gevent, in another greenlet of its thread."""
    future: Future[T] = Future()
    done = surroundings().signal()
    future.add_done_callback(lambda _: done.set())
    surroundings().background(_purpose(answers), _MOST_THREADS)(_fulfilling(future, app, call))
    rest = timeout
    try:
        while not done.wait(rest) and not future.done():
            rest = 0.0 if answers is None else answers.remaining(timeout)
            if rest <= 0:
                raise _unavailable(app, what, _lateness(future, timeout, answers))
        return future.result()
    except internals.PublishError as exc:
        raise _unavailable(app, what, _refusal(exc, answers)) from exc
    finally:
        future.cancel()


def _purpose(answers: Answers | None) -> str:
    return "publisher" if answers is None else "listener"


def _fulfilling(future: Future[T], app: App, call: Callable[[], T]) -> Callable[[], None]:
    """Return what is to be called in the thread: it gives ``future`` the outcome of ``call``."""
    return partial(fulfil, future, partial(copy_context().run, internals.in_context(app, call)))


def _refusal(exc: Exception, answers: Answers | None) -> str:
    fate = _LOST if answers is not None and answers.begun else "it was not sent"
    return f"cannot be reached: {_CREDENTIALS.sub('', str(exc))}; {fate}"


def _lateness(future: Future[T], timeout: float | None, answers: Answers | None) -> str:
    """Return the outcome of a call that took too long; a call that has not begun is cancelled."""
    if answers is not None and answers.begun:
        return f"has fallen silent; {_LOST}"
    fate = "it was not sent" if future.cancel() else "whether it is sent after all is not known"
    return f"did not take it within {timeout:g} s; {fate}"


def _unavailable(app: App, what: str, why: str) -> BrokerUnavailable:
    broker = _CREDENTIALS.sub("", app.connection_for_write().as_uri())
    return BrokerUnavailable(f"{what}: the broker at {broker} {why}")
