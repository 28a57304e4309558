"""Noticing that the process must stop.

Servers wait for open connections before they tell the application that they stop, and some of them without limit. A
stream of events would block them for ever. Therefore code that keeps connections open is called when the signal
arrives. The server's own handler is called as before.
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
    """Calls methods when SIGINT or SIGTERM arrives, in the event loop that has registered them.

    It holds weak references only: events that are dropped without being closed are collected, and their waiters too.

    While methods are registered, its handlers replace the server's and call them. This works in the main thread only,
    since signals cannot be handled elsewhere.
    """

    def __init__(self) -> None:
        self._listening: dict[WeakMethod[Ended], asyncio.AbstractEventLoop] = {}
        self._handlers: dict[int, tuple[Any, Any]] = {}

    def listen(self, ended: Ended) -> None:
        """Call ``ended``, a method, in the running loop when a signal arrives."""
        self._listening[WeakMethod(ended, self._forget)] = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            known = self._handlers.get(number)
            if callable(previous) and (known is None or previous is not known[0]):  # a server may have restored its own
                self._handlers[number] = (self._handler(previous), previous)
                signal.signal(number, self._handlers[number][0])

    def _handler(self, previous: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            for method, loop in list(self._listening.items()):  # threads may come and go meanwhile
                ended = method()
                if ended is not None and not loop.is_closed():
                    loop.call_soon_threadsafe(ended)
            previous(number, frame)

        # sse-starlette finds uvicorn's server by this attribute, and waits for its end.
        setattr(handle, "__self__", getattr(previous, "__self__", None))  # noqa: B010  (no type checker knows of it)
        return handle

    def leave(self, ended: Ended) -> None:
        self._forget(WeakMethod(ended))
        if self._listening or threading.current_thread() is not threading.main_thread():
            return
        for number, (handler, previous) in list(self._handlers.items()):
            if signal.getsignal(number) is handler:  # otherwise another handler calls it, and it stays
                signal.signal(number, previous)
                del self._handlers[number]

    def _forget(self, method: WeakMethod[Ended]) -> None:
        self._listening.pop(method, None)


SHUTDOWN: Final = Shutdown()
"""The only instance, because a process has only one handler for each signal."""
