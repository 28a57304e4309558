"""Calls that hand something to an application's broker: made in a thread, and awaited for a limited time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from threading import Event
from typing import Final, TypeVar

from aioresult.integrations.celery import internals
from aioresult.integrations.celery.errors import BrokerUnavailable
from aioresult.integrations.celery.protocols import App
from aioresult.integrations.celery.publisher import get_publisher

T = TypeVar("T")

PUBLISH_TIMEOUT: Final = 5.0
"""Seconds that the broker may take by default."""
_CREDENTIALS: Final = re.compile(r"(?<=://)[^@/\s]*@")


async def hand_over(
    app: App, what: str, call: Callable[[], T], timeout: float | None, answered: Event | None = None
) -> T:
    """Call ``call``, which blocks until the broker has something, in a thread, and return what it returns.

    Args:
        app: the application whose broker it is.
        what: what is done; errors begin with it.
        call: called in the Celery context of this thread.
        timeout: seconds that the broker may take.
        answered: where ``call`` goes on to wait for answers: set by it when the broker has taken what it sends. From
            then on ``timeout`` means nothing any more. Such calls have threads of their own, to keep nobody from
            publishing.

    Raises:
        BrokerUnavailable: the broker refused it, or took too long.
    """
    threads = get_publisher("publisher" if answered is None else "listener")
    future = threads.submit(internals.in_context(app, call))
    outcome = asyncio.wrap_future(future)
    try:
        await asyncio.wait([outcome], timeout=timeout)
        if not (future.done() or _is_set(answered)):
            fate = "it was not sent" if future.cancel() else "whether it is sent after all is not known"
            raise _unavailable(app, what, f"did not take it within {timeout:g} s; {fate}")
        return await outcome
    except internals.PublishError as exc:
        fate = "it was sent, its answers are lost" if _is_set(answered) else "it was not sent"
        raise _unavailable(app, what, f"cannot be reached: {_CREDENTIALS.sub('', str(exc))}; {fate}") from exc
    finally:
        outcome.cancel()  # what nobody waits for any more is not begun


def _is_set(event: Event | None) -> bool:
    return event is not None and event.is_set()


def _unavailable(app: App, what: str, why: str) -> BrokerUnavailable:
    broker = _CREDENTIALS.sub("", app.connection_for_write().as_uri())
    return BrokerUnavailable(f"{what}: the broker at {broker} {why}")
