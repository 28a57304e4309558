"""Callbacks by ``AsyncResult.then``: results that get their final state as soon as it is known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final
from weakref import ref

from aioresult import forks
from aioresult.backend import Backend
from aioresult.hub import Hub
from aioresult.integrations.celery import internals
from aioresult.integrations.celery.protocols import PendingResult
from aioresult.record import Record
from aioresult.sync import portal
from aioresult.sync.surroundings import surroundings

logger = logging.getLogger("aioresult")

_WEAKEN_AFTER: Final = 0.5
"""Seconds after which the listeners of a new result are checked."""
_PAUSE: Final = 2.0
"""Seconds until watching is retried after a failure."""

Fulfil = Callable[[PendingResult, Record], None]


class Callbacks:
    """Waits for results on which ``then`` was called, and fulfils them in a thread where the user's code may block.

    The registry belongs to the portal's loop; everything else only schedules calls there. A result on which ``then``
    was called stays registered until it is final, forgotten or removed. It is kept alive, unless it was added weakly.
    A result that is only a member of a group is kept alive by the group alone.
    """

    def __init__(self, backend: Backend, fulfil: Fulfil) -> None:
        self._backend = backend
        self._fulfil = fulfil
        self._start_afresh()
        forks.follow(self)

    def _start_afresh(self) -> None:
        self._hub: Hub | None = None
        self._registered: dict[str, dict[int, Callable[[], PendingResult | None]]] = {}
        self._rejoining = False
        self._to_weaken: list[tuple[str, int]] = []
        self._in_background: Callable[[Callable[[], object]], object]

    # --- called anywhere ---

    def add(self, result: PendingResult, weak: bool) -> None:
        """Register ``result``, and keep it alive unless ``weak``."""
        self._in_background = surroundings().background("callbacks", 1)
        portal.start()
        portal.call_soon(self._add, str(result.id), id(result), ref(result) if weak else lambda: result)

    def remove(self, result: PendingResult) -> None:
        """Remove ``result``, even if its registration is only scheduled; may be called by the garbage collector."""
        portal.call_soon(self._remove, str(result.id), id(result))

    def forget(self, task_id: str) -> None:
        """Remove all results of a task, also those whose registration is only scheduled."""
        portal.call_soon(self._forget, task_id)

    # --- in the portal's loop ---

    def _add(self, task_id: str, key: int, reference: Callable[[], PendingResult | None]) -> None:
        if reference() is None:  # dropped already
            return
        hub = self._hub = self._backend._runtime.hub
        members = self._registered.setdefault(task_id, {})
        members[key] = reference
        if not isinstance(reference, ref):
            if not self._to_weaken:
                asyncio.get_running_loop().call_later(_WEAKEN_AFTER, self._weaken)
            self._to_weaken.append((task_id, key))
        if len(members) == 1:
            hub.join((task_id,), self)

    def _weaken(self) -> None:
        """Keep only weak references to results whose only listeners are groups.

        At registration this is not known, because another thread adds the listeners a moment later. Without this,
        groups that were dropped would stay registered until their last member is final, perhaps for ever.
        """
        waiting, self._to_weaken = self._to_weaken, []
        for task_id, key in waiting:
            members = self._registered.get(task_id, {})
            result = members[key]() if key in members else None
            if result is None:
                continue
            if not internals.has_listeners(result.on_ready):
                self._to_weaken.append((task_id, key))
            elif internals.only_groups_listen(result.on_ready):
                members[key] = ref(result)
        if self._to_weaken:
            asyncio.get_running_loop().call_later(_WEAKEN_AFTER, self._weaken)

    def _remove(self, task_id: str, key: int) -> None:
        members = self._registered.get(task_id, {})
        if members.pop(key, None) is not None and not members:
            self._forget(task_id)

    def _forget(self, task_id: str) -> None:
        if self._registered.pop(task_id, None) is not None and self._hub is not None:
            self._hub.leave((task_id,), self)

    def push(self, record: Record) -> None:
        """Take a record from the hub."""
        if not record.ended:
            return
        for reference in self._registered.pop(record.id, {}).values():
            result = reference()
            if result is not None and record.error is None:
                self._in_background(partial(_call, self._fulfil, result, record))

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting. No caller would see it, so wait again later."""
        if not self._rejoining:
            self._rejoining = True
            asyncio.get_running_loop().call_later(_PAUSE, self._rejoin, error)

    def _rejoin(self, error: Exception) -> None:
        """Wait again, unless the backend was closed meanwhile: it must not be opened again only to wait."""
        self._rejoining = False
        hub, ids = self._hub, list(self._registered)
        if hub is None or hub.closed:
            self._registered.clear()
            logger.info("no longer waiting for %d results with callbacks: %s", len(ids), error)
        else:
            logger.warning("waiting for %d results with callbacks was interrupted: %s", len(ids), error)
            hub.join(ids, self)


def _call(fulfil: Fulfil, result: PendingResult, record: Record) -> None:
    try:
        fulfil(result, record)
    except Exception:
        logger.exception("a callback of a task's result failed")
