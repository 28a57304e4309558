"""Storing how tasks end, also when the store is away for a while."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import msgspec

from aioresult import states
from aioresult.backend import Backend
from aioresult.backoff import Backoff, retried, time_is_up
from aioresult.errors import AioResultError, EncodeError, ResultNotStored, StoreUnavailable, TaskRevokedError
from aioresult.record import Record, record_of

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


def revoked() -> Outcome:
    """Return how a cancelled call ended."""
    return Outcome(states.REVOKED, TaskRevokedError("cancelled"))


class Recorder:
    """Stores how tasks ended, and counts what was lost.

    Args:
        timeout: how many seconds a result is kept for while the store is away.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lost: list[Exception] = []

    async def record(self, backend: Backend, task_id: str, outcome: Outcome, meta: dict[str, Any]) -> None:
        """Store ``outcome`` as the final state of ``task_id``; a result that cannot be stored is logged and counted."""
        try:
            record = _final_record(backend, task_id, outcome, meta)
            put = partial(backend._put_record, record)
            if not await retried(put, Backoff(), give_up=time_is_up(self._timeout)):
                await _log_refusal(backend, record)
        except Exception as exc:
            logger.exception("the result of task %r could not be stored, and is lost", task_id)
            self._lost.append(exc)

    def raise_losses(self) -> None:
        """Raise an error for the results that were lost, if any were.

        Raises:
            StoreUnavailable: the store was away for too long.
            AioResultError: it refused them.
        """
        if self._lost:
            first = self._lost[0]
            kind = StoreUnavailable if isinstance(first, StoreUnavailable) else AioResultError
            raise kind(f"{len(self._lost)} results could not be stored: {first}") from first


def _final_record(backend: Backend, task_id: str, outcome: Outcome, meta: dict[str, Any]) -> Record:
    """Return the encoded record: when it is put again after an outage, the store recognises it."""
    store = backend._runtime.store
    try:
        return store.encode(record_of(task_id, outcome.value, outcome.state, **meta))
    except EncodeError as exc:  # those who wait must get to know that there will be no value
        return store.encode(record_of(task_id, exc, states.FAILURE, **meta))


async def _log_refusal(backend: Backend, record: Record) -> None:
    try:
        found = (await backend.fetch(record.id)).status
    except ResultNotStored:  # disabled:// drops everything on purpose
        return
    except AioResultError as exc:
        found = str(exc)
    logger.warning(
        "the %s of task %r was not stored: a final SUCCESS is never replaced, and stored under this id is: %s; "
        "give each run an id of its own",
        record.status,
        record.id,
        found,
    )
