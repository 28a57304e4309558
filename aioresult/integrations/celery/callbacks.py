"""Callbacks by ``AsyncResult.then``: results that are given their final state as soon as it is known."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Final
from weakref import ref

from aioresult.backend import Backend
from aioresult.integrations.celery.edge import PendingResult
from aioresult.record import Record
from aioresult.sync import portal

logger = logging.getLogger("aioresult")

_PAUSE: Final = 2.0
"""Seconds until what could not be watched is tried again."""

Fulfil = Callable[[PendingResult, Record], None]


class Callbacks:
    """Listens for results that somebody has called ``then`` on, and fulfils them in a thread of its own.

    The registry belongs to the portal's loop; everything else only schedules calls there. As with Celery's own Redis
    backend, a result stays registered, and alive unless it was added weakly, until it is final, forgotten or removed.
    """

    def __init__(self, backend: Backend, fulfil: Fulfil) -> None:
        self._backend = backend
        self._fulfil = fulfil
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._registered: dict[str, dict[int, Callable[[], PendingResult | None]]] = {}
        self._rejoining = False

    # --- called anywhere ---

    def add(self, result: PendingResult, weak: bool) -> None:
        """Register ``result``; it is kept alive unless ``weak``."""
        if self._pid != os.getpid():
            self._start_afresh()
        portal.call_soon(self._add, result.id, id(result), ref(result) if weak else lambda: result)

    def remove(self, result: PendingResult) -> None:
        """Forget ``result``, if it is registered; may be called by the garbage collector."""
        if result.id in self._registered and self._pid == os.getpid():
            portal.call_soon(self._remove, result.id, id(result))

    # --- in the portal's loop ---

    def _add(self, task_id: str, key: int, reference: Callable[[], PendingResult | None]) -> None:
        members = self._registered.setdefault(task_id, {})
        members[key] = reference
        if len(members) == 1:
            self._backend.runtime.hub.join((task_id,), self)

    def _remove(self, task_id: str, key: int) -> None:
        members = self._registered.get(task_id, {})
        if members.pop(key, None) is not None and not members:
            del self._registered[task_id]
            self._backend.runtime.hub.leave((task_id,), self)

    def push(self, record: Record) -> None:
        """Take a record from the hub."""
        if not record.ended:
            return
        for reference in self._registered.pop(record.id, {}).values():
            result = reference()
            if result is not None and record.error is None:
                _call_in_thread(partial(self._fulfil, result, record))

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting: nobody is there to see it, so try again."""
        if not self._rejoining:
            self._rejoining = True
            self._backend.runtime.loop.call_later(_PAUSE, self._rejoin, error)

    def _rejoin(self, error: Exception) -> None:
        logger.warning("waiting for %d results with callbacks was interrupted: %s", len(self._registered), error)
        self._rejoining = False
        self._backend.runtime.hub.join(list(self._registered), self)


# --- the thread, one for each process: callbacks are the user's code, and must not stop the portal's loop ---

_threads: Final[dict[int, SimpleQueue[Callable[[], None]]]] = {}


def _call_in_thread(call: Callable[[], None]) -> None:
    calls = _threads.get(os.getpid())
    if calls is None:
        calls = _threads[os.getpid()] = SimpleQueue()
        threading.Thread(target=_serve, args=(calls,), name="aioresult celery callbacks", daemon=True).start()
    calls.put(call)


def _serve(calls: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        call = calls.get()
        try:
            call()
        except Exception:
            logger.exception("a callback of a task's result failed")
        del call  # holds the result
