"""Storing how tasks end, even when the store is unavailable for a while."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import msgspec

from aioresult import states
from aioresult.backend import Backend
from aioresult.backoff import Backoff, retried, time_is_up
from aioresult.codec.exceptions import safe_repr
from aioresult.errors import AioResultError, EncodeError, ResultNotStored, StoreUnavailable, TaskRevokedError
from aioresult.record import Record, conditional, record_of

logger = logging.getLogger("aioresult")


class Outcome(msgspec.Struct, frozen=True):
    """How a call ended. It is not raised as an exception, because futures and tasks cannot carry every exception.

    Attributes:
        state: SUCCESS, FAILURE or REVOKED.
        value: the return value, or the exception.
        ends_process: whether ``value`` is an exception that ends the process, and not only the task.
    """

    state: str
    value: Any
    ends_process: bool = False


def cancelled() -> Outcome:
    """Return how a cancelled call ended."""
    return Outcome(states.REVOKED, TaskRevokedError("cancelled"))


class Recorder:
    """Stores how the tasks of a runner ended, counts the results that were lost, and logs other failures.

    While the store is unavailable, it retries for ``timeout`` seconds.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._lost: list[Exception] = []
        self._listens = True

    async def record(
        self, backend: Backend, task_id: str, outcome: Outcome, meta: dict[str, Any], overs: Sequence[str | None]
    ) -> None:
        """Store ``outcome`` as the final state of ``task_id``; a result that cannot be stored is logged and counted.

        ``overs`` says what it may replace, see ``record.Conditional``; ``None`` is the plain rule.
        """
        try:
            record = _final_record(backend, task_id, outcome, meta)
            for over in overs if backend._runtime.store.keeps_leases else (None,):
                put = partial(backend._put_record, record if over is None else conditional(record, over))
                if await retried(put, Backoff(), give_up=time_is_up(self.timeout)):
                    return
            await _log_refusal(backend, record)
        except Exception as exc:  # noqa: BLE001  (logged, and raised when the runner is left)
            self.lose(task_id, exc)

    def lose(self, task_id: str, error: Exception) -> None:
        """Log and count a result that cannot be stored."""
        logger.error("the result of task %r could not be stored, and is lost", task_id, exc_info=error)
        self._lost.append(error)

    def listening_lost(self, error: Exception) -> None:
        """Log, once for all tasks, that revocations are not received any more."""
        if self._listens:
            self._listens = False
            logger.warning("tasks that run here cannot be stopped from elsewhere any more: %s", error)

    def raise_losses(self) -> None:
        """Raise an error for the results that were lost, if any were."""
        if self._lost:
            first = self._lost[0]
            kind = StoreUnavailable if isinstance(first, StoreUnavailable) else AioResultError
            raise kind(f"{len(self._lost)} results could not be stored: {first}") from first


def _final_record(backend: Backend, task_id: str, outcome: Outcome, meta: dict[str, Any]) -> Record:
    """Return the encoded record, so that the store recognises it when it is put again after an outage."""
    store = backend._runtime.store
    try:
        return store.encode(record_of(task_id, outcome.value, outcome.state, **meta))
    except EncodeError as exc:  # those that wait must learn that there will be no value
        return store.encode(record_of(task_id, exc, states.FAILURE, **meta))


async def _log_refusal(backend: Backend, record: Record) -> None:
    try:
        found = (await backend.fetch(record.id)).status
        if found == states.REVOKED:
            logger.info("task %r was revoked; what it returned is dropped", record.id)
            return
    except ResultNotStored:  # disabled:// drops everything on purpose
        return
    except AioResultError as exc:
        found = str(exc)
    why = "a final SUCCESS is never replaced" if found == states.SUCCESS else "how it ended is stored already"
    logger.warning(
        "the %s of task %r was not stored: %s, and stored under this id is: %s; give each run an id of its own",
        record.status,
        record.id,
        why,
        found,
    )


def meta_of(backend: Backend, call: partial[Any]) -> dict[str, Any]:
    """Return the fields that are stored beside the value of ``call``: with ``result_extended``, what was called."""
    if not backend.settings.result_extended:
        return {"children": []}
    codec = backend._runtime.store.codec
    fn = cast("Any", call.func)
    meta: dict[str, Any] = {
        "children": [],
        "name": f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', type(fn).__qualname__)}",
        "worker": socket.gethostname(),
        "retries": 0,
    }
    for key, value in (("args", list(call.args)), ("kwargs", call.keywords)):
        try:
            codec.encode_value(value, key)
            meta[key] = value
        except EncodeError:  # arguments are only for display: they must not prevent the result from being stored
            meta[key] = safe_repr(value)
    return meta
