"""A result backend for Celery that stores and waits through aioresult: ``result_backend="aioresult+redis://..."``.

What follows the ``+`` is any URL that aioresult knows, also in Celery's spelling: ``aioresult+mongodb://...``,
``aioresult+db+postgresql://...``, ``aioresult+sentinel://...``. Stored formats are Celery's: workers and clients
without this plugin can use the same store. Celery finds it by the entry point ``aioresult`` of the group
``celery.result_backends``.

Its connections belong to the portal of ``aioresult.sync``, one event loop in one thread for each process: any number of
threads may store and wait, and a forked worker process starts afresh.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from aioresult.errors import ResultTimeout
from aioresult.integrations.celery import internals
from aioresult.integrations.celery.callbacks import Callbacks
from aioresult.integrations.celery.metas import Meta
from aioresult.integrations.celery.protocols import App, PendingResult, PendingSet
from aioresult.integrations.celery.storing import StoringBackend
from aioresult.record import Record
from aioresult.states import PROPAGATE_STATES
from aioresult.sync.observing import OnInterval, OnMessage, OnValue
from aioresult.sync.portal import iterate, run_anywhere
from aioresult.sync.records import records

_INTERVAL = 0.5


class AioResultBackend(StoringBackend):
    """The backend of one application, shared by all its threads.

    Attributes:
        is_async: whether results become ready by push.
        supports_native_join: whether groups are waited for as one.
    """

    supports_native_join = True
    is_async = True

    def __init__(self, app: App, url: str | None = None, **options: Any) -> None:
        super().__init__(app, url, **options)
        self._callbacks = Callbacks(self._async, self._fulfil)

    # --- waiting for one ---

    def wait_for_pending(
        self,
        result: PendingResult,
        timeout: float | None = None,
        interval: float | None = _INTERVAL,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
        callback: OnValue | None = None,
        propagate: bool = True,
    ) -> Any:
        """Wait for ``result``, woken by the store; then return its value or raise its exception.

        A parent that fails ends the wait with its own exception, if ``AsyncResult.get`` follows parents.
        """
        self._ensure_not_eager()
        task_id = str(result.id)
        parents = _ancestors(result) if internals.follows_parents(on_interval) else {}
        ids = list(dict.fromkeys([task_id, *parents]))
        try:
            for record in self._records(ids, timeout, on_message, internals.recurring(on_interval), interval):
                if record.id != task_id:
                    self._raise_if_failed(parents[record.id], record)
                    continue
                self._tell(on_message, record)
                if record.ended:
                    if record.status in PROPAGATE_STATES and parents:
                        self._raise_failure_among(parents)  # it is the cause of the result's failure
                    self._fulfil(result, record)
                    break
        finally:
            if not internals.has_listeners(result.on_ready):  # registered by ``get`` itself, and not by ``then``
                self._callbacks.remove(result)
        return result.maybe_throw(propagate=propagate, callback=callback)

    def _raise_failure_among(self, parents: dict[str, PendingResult]) -> None:
        found = run_anywhere(self._async.fetch_many, list(parents))
        for task_id in reversed(parents):  # from the root on, as in Celery
            if task_id in found:
                self._raise_if_failed(parents[task_id], found[task_id])

    def _raise_if_failed(self, parent: PendingResult, record: Record) -> None:
        if record.status in PROPAGATE_STATES:
            self._fulfil(parent, record)
            parent.maybe_throw()

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float | None = _INTERVAL,
        no_ack: bool = True,
        on_interval: OnInterval | None = None,
    ) -> Meta:
        """Wait for a task and return its final state."""
        _, meta = next(self.get_many([task_id], timeout, interval, on_interval=on_interval))
        return meta

    # --- waiting for many ---

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float | None = _INTERVAL,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
        max_iterations: int | None = None,
        **_: Any,
    ) -> Iterator[tuple[str, Meta]]:
        """Yield ids and final states of tasks as they come; with ``max_iterations`` those that are final now."""
        ids = list(dict.fromkeys(map(str, task_ids)))
        try:
            for record in self._records(ids, 0 if max_iterations else timeout, on_message, on_interval, interval):
                self._tell(on_message, record)
                if record.ended:
                    yield record.id, self._meta(record)
        except internals.CeleryTimeout:
            if not max_iterations:
                raise

    def iter_native(
        self,
        result: PendingSet,
        timeout: float | None = None,
        interval: float | None = _INTERVAL,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
    ) -> Iterator[tuple[str, Meta | Sequence[PendingResult | PendingSet]]]:
        """Yield ids and final states of a set's members as they come; of a group among them, its id and members."""
        self._ensure_not_eager()
        unfinished: defaultdict[str, list[_Member]] = defaultdict(list)
        for node in result.results:
            member = _Member(node)
            for leaf in member.leaves:
                if leaf._cache is None:
                    unfinished[str(leaf.id)].append(member)
                    member.missing += 1
            if not member.missing:
                yield member.outcome()
        for record in self._records(list(unfinished), timeout, on_message, on_interval, interval):
            self._tell(on_message, record)
            for member in unfinished.pop(record.id, ()) if record.ended else ():
                for leaf in member.leaves:
                    if str(leaf.id) == record.id:
                        self._fulfil(leaf, record)
                member.missing -= 1
                if not member.missing:
                    yield member.outcome()

    # --- common ---

    def _records(
        self,
        ids: Sequence[str],
        timeout: float | None,
        on_message: OnMessage | None,
        on_interval: OnInterval | None,
        interval: float | None,
    ) -> Iterator[Record]:
        """Yield the records of ``ids`` as they come; without ``on_message`` only those that end the waiting."""
        try:
            for batch in iterate(
                lambda: records(self._async, ids, timeout, finals_only=on_message is None),
                interval=interval or _INTERVAL,
                on_interval=on_interval,
            ):
                yield from batch
        except ResultTimeout as exc:
            raise internals.CeleryTimeout(str(exc)) from exc

    def _tell(self, on_message: OnMessage | None, record: Record) -> None:
        if on_message is not None:
            on_message(self._meta(record))

    def _fulfil(self, result: PendingResult, record: Record) -> None:
        """Give a result its final state, once, and call its callbacks."""
        meta = self._meta(record)
        with _fulfilling():
            if result._cache is not None:
                return
            result._set_cache(meta)
        result.on_ready(result)

    # --- callbacks ---

    def add_pending_result(self, result: PendingResult, weak: bool = False) -> PendingResult:
        """Give ``result`` its final state when that is stored, even if no caller waits for it."""
        if result._cache is None:
            self._callbacks.add(result, weak)
        return result

    def _forget(self, task_id: str) -> None:
        self._callbacks.forget(str(task_id))
        super()._forget(task_id)

    def remove_pending_result(self, result: PendingResult) -> PendingResult:
        """Undo ``add_pending_result``. Does no I/O, since the garbage collector calls it, too."""
        self._callbacks.remove(result)
        return result


_locks: Final[dict[int, threading.Lock]] = {}


def _fulfilling() -> threading.Lock:
    """Return this process's lock: in a forked child, that of the parent might never be released."""
    return _locks.get(os.getpid()) or _locks.setdefault(os.getpid(), threading.Lock())


class _Member:
    """A member of a set that is waited for, with the single results of which it consists."""

    def __init__(self, node: PendingResult | PendingSet) -> None:
        self.node = node
        self.leaves = list(_leaves(node))
        self.missing = 0

    def outcome(self) -> tuple[str, Meta | Sequence[PendingResult | PendingSet]]:
        """Return what ``join_native`` expects: a state, or for a group its members."""
        if internals.is_set(self.node):
            return self.node.id, self.node.results
        return self.node.id, self.leaves[0]._cache or {}


def _leaves(node: PendingResult | PendingSet) -> Iterator[PendingResult]:
    if internals.is_set(node):
        for member in node.results:
            yield from _leaves(member)
    else:
        yield node


def _ancestors(result: PendingResult) -> dict[str, PendingResult]:
    """Return the single results among all ancestors of ``result``, by id."""
    ancestors: dict[str, PendingResult] = {}
    node = result.parent
    while node is not None:
        ancestors.update((str(leaf.id), leaf) for leaf in _leaves(node))
        node = node.parent
    return ancestors
