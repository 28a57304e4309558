"""Hearing that the process is told to end.

Servers wait for open connections before they tell the application that they end, and some of them without limit. A
stream of events would hold them up for ever. So whoever keeps connections open is told when the signal comes. The
server's own handler is called as before.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final
from weakref import WeakMethod

Ended = Callable[[], None]
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Shutdown:
    """Calls methods when SIGINT or SIGTERM comes, in the event loop that has asked for it.

    It keeps nobody alive: events that are given up without being closed are collected, and their waiters with them.

    While somebody listens, handlers are put in front of the server's, where it has some, and in the main thread only,
    since signals cannot be handled elsewhere.
    """

    def __init__(self) -> None:
        self._listening: dict[WeakMethod[Ended], asyncio.AbstractEventLoop] = {}
        self._handlers: dict[int, tuple[Any, Any]] = {}

    def listen(self, ended: Ended) -> None:
        """Have ``ended``, a method, called in the running loop when a signal comes."""
        self._listening[WeakMethod(ended, self._forget)] = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            known = self._handlers.get(number)
            if callable(previous) and (known is None or previous is not known[0]):  # a server may have put its own back
                self._handlers[number] = (self._handler(previous), previous)
                signal.signal(number, self._handlers[number][0])

    def _handler(self, previous: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            for method, loop in list(self._listening.items()):  # threads may come and go meanwhile
                ended = method()
                if ended is not None and not loop.is_closed():
                    loop.call_soon_threadsafe(ended)
            previous(number, frame)

        # By this attribute sse-starlette finds uvicorn's server, whose ending it waits for.
        setattr(handle, "__self__", getattr(previous, "__self__", None))  # noqa: B010  (no type checker knows of it)
        return handle

    def leave(self, ended: Ended) -> None:
        self._forget(WeakMethod(ended))
        if self._listening or threading.current_thread() is not threading.main_thread():
            return
        for number, (handler, previous) in list(self._handlers.items()):
            if signal.getsignal(number) is handler:  # or else another one is in front of it, and it stays
                signal.signal(number, previous)
                del self._handlers[number]

    def _forget(self, method: WeakMethod[Ended]) -> None:
        self._listening.pop(method, None)


SHUTDOWN: Final = Shutdown()
"""That of this process, whose signals there are only once."""
