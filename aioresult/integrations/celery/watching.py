"""Watching results: from before their task is published, until they are final or dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import ref

from aioresult.record import Record
from aioresult.result import AsyncResult
from aioresult.runtime import Runtime


class Watch:
    """A listener that gives results their final record when it arrives, without keeping them alive.

    It costs as much as a waiter: a registration in the hub and, until the result is final or dropped, a subscription.
    Dropping a result ends its watching. The garbage collector may run in any thread, so it only schedules a call in the
    loop. The hub then drops the subscription with its next surplus.
    """

    __slots__ = ("_refs", "_runtime")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._refs: dict[str, list[ref[AsyncResult[Any]]]] = {}

    def add(self, results: Iterable[AsyncResult[Any]]) -> None:
        """Begin to watch ``results``; the hub reads each of them once its subscription has taken effect."""
        fresh: list[str] = []
        for result in results:
            refs = self._refs.get(result.id)
            if refs is None:
                refs = self._refs[result.id] = []
                fresh.append(result.id)
            refs.append(ref(result, partial(self._drop, result.id)))
        self._runtime.hub.join(fresh, self)

    def close(self) -> None:
        """End the watching of all results that are not final yet."""
        ids = list(self._refs)
        self._refs.clear()
        self._runtime.hub.leave(ids, self)

    # --- called by the hub ---

    def push(self, record: Record) -> None:
        """Take a record from the hub."""
        if record.ended:
            for reference in self._refs.pop(record.id, ()):
                result = reference()
                if result is not None and record.error is None:
                    result._keep(record)

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting; awaiting one of the results reads it again, and may raise."""
        self.close()

    # --- called by the garbage collector ---

    def _drop(self, task_id: str, reference: ref[AsyncResult[Any]]) -> None:
        """Schedule the end of one result's watching."""
        loop = self._runtime.loop
        with suppress(RuntimeError):  # the loop is closed, and the hub with it
            if asyncio._get_running_loop() is loop:
                loop.call_soon(self._dropped, task_id, reference)
            else:
                loop.call_soon_threadsafe(self._dropped, task_id, reference)

    def _dropped(self, task_id: str, reference: ref[AsyncResult[Any]]) -> None:
        refs = self._refs.get(task_id)
        if refs is None or reference not in refs:
            return
        refs.remove(reference)
        if not refs:
            del self._refs[task_id]
            self._runtime.hub.leave((task_id,), self)
