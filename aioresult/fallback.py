"""The fallback read: a timer for the case that a notification was lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable


class Fallback:
    """Calls ``read`` about every ``interval`` seconds, jittered so that many processes do not read in step.

    It runs whether or not there is a feed: a store that can be read but not subscribed to is read all the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float, read: Callable[[], None]) -> None:
        self._loop = loop
        self._interval = interval
        self._read = read
        self._plan()

    def _plan(self) -> None:
        self._timer = self._loop.call_later(self._interval * random.uniform(0.8, 1.2), self._fire)

    def _fire(self) -> None:
        self._plan()
        self._read()

    def cancel(self) -> None:
        """Call it no more."""
        self._timer.cancel()
