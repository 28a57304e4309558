"""One runtime for each event loop of this process, made at its first use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock
from weakref import WeakKeyDictionary

from aioresult import forks
from aioresult.abc import Store
from aioresult.runtime import Runtime


class Runtimes:
    """Gives each event loop a runtime of its own. A forked child starts afresh."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = WeakKeyDictionary()
        self._lock = Lock()
        self._last: Runtime | None = None
        forks.follow(self)

    def all(self) -> list[Runtime]:
        """Return the runtimes that are in use."""
        return list(self._by_loop.values())

    def current(self) -> Runtime:
        """Return the runtime of the running event loop."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last.loop is loop:
            return last
        with self._lock:
            runtime = self._by_loop.get(loop)
            if runtime is None:
                for other in [other for other in self._by_loop if other.is_closed()]:
                    del self._by_loop[other]
                runtime = self._by_loop[loop] = Runtime(self._open_store)
            self._last = runtime
        return runtime

    async def aclose(self) -> None:
        """Close the runtime of the running event loop, if it has one."""
        loop = asyncio.get_running_loop()
        with self._lock:
            runtime = self._by_loop.pop(loop, None)
            if self._last is runtime:
                self._last = None
        if runtime is not None:
            await runtime.aclose()

    def _start_afresh(self) -> None:
        """Forget what belongs to the parent process: a forked child must neither use nor close its connections."""
        forks.keep(self._by_loop)
        self._by_loop = WeakKeyDictionary()
        self._lock = Lock()
        self._last = None
