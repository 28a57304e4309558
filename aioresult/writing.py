"""Writing: the methods of a backend that store states, results and items of streams."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from aioresult import states, stream
from aioresult.backoff import Backoff, retried
from aioresult.errors import TaskRevokedError, Unsupported
from aioresult.record import EXTENDED_FIELDS, Record, check_task_id, record_of
from aioresult.runtime import Runtime
from aioresult.settings import Settings
from aioresult.states import check_state
from aioresult.stream import Append

_META: Final = frozenset({"children", "group_id", "parent_id", "stamps", *EXTENDED_FIELDS})


class Writer(ABC):
    """Stores states, results and items of streams. ``aioresult.Backend`` is one.

    Attributes:
        settings: the checked settings.
    """

    settings: Settings

    @property
    @abstractmethod
    def _runtime(self) -> Runtime:
        """The runtime of the running event loop."""

    # --- states: each method returns whether it wrote ---

    async def store_result(
        self,
        /,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        *,
        ignore_result: bool | None = None,
        **meta: Any,
    ) -> bool:
        """Store a state of a task and wake its waiters.

        Args:
            task_id: the task's id.
            result: the return value; the exception for FAILURE, RETRY and REVOKED; any encodable value for other
                states.
            state: the state's name.
            traceback: the traceback's text; by default that of the exception itself, its causes included.
            ignore_result: overrides the setting ``task_ignore_result`` for this call.
            meta: ``children``, ``group_id``, ``parent_id``, ``stamps``, and, stored only with ``result_extended``,
                ``name``, ``args``, ``kwargs``, ``worker``, ``retries`` and ``queue``.

        Returns:
            Whether it was written. It is not written if results are ignored, or if the stored state may not be replaced
            (SUCCESS never; another final state only by a final one).

        Raises:
            EncodeError: the value cannot be encoded; nothing was stored.
            StoreUnavailable: the store cannot be reached.
            ValueError: the state is the name of a final one in other letters (``"success"``), which would end no wait.
        """
        task_id = check_task_id(task_id)
        if meta and (unknown := meta.keys() - _META):
            raise TypeError(
                f"store_result() got unknown meta {', '.join(sorted(unknown))}; known are {', '.join(sorted(_META))}"
            )
        check_state(state)
        if self.settings.ignores(state, ignore_result):
            return False
        return await self._put_record(record_of(task_id, result, state, traceback, **meta))

    async def mark_as_started(self, /, task_id: str, **meta: Any) -> bool:
        """Store STARTED with ``meta`` as its result; by default this process's id and host, as Celery's workers do."""
        return await self.store_result(
            task_id, meta or {"pid": os.getpid(), "hostname": socket.gethostname()}, states.STARTED
        )

    async def mark_as_done(self, /, task_id: str, result: Any, **meta: Any) -> bool:
        """Store SUCCESS."""
        return await self.store_result(task_id, result, states.SUCCESS, **meta)

    async def mark_as_failure(
        self, /, task_id: str, exc: BaseException, traceback: str | None = None, **meta: Any
    ) -> bool:
        """Store FAILURE with its exception."""
        return await self.store_result(task_id, exc, states.FAILURE, traceback, **meta)

    async def mark_as_retry(
        self, /, task_id: str, exc: BaseException | None = None, traceback: str | None = None, **meta: Any
    ) -> bool:
        """Store RETRY with the exception that led to it."""
        return await self.store_result(task_id, exc, states.RETRY, traceback, **meta)

    async def mark_as_revoked(self, /, task_id: str, reason: str = "revoked", **meta: Any) -> bool:
        """Store REVOKED; ``reason`` is Celery's ``revoked``, ``terminated`` or ``expired``, or a text of your own."""
        return await self.store_result(task_id, TaskRevokedError(reason), states.REVOKED, **meta)

    async def update_state(self, task_id: str, state: str, meta: Any = None) -> bool:
        """Store a state of your own, such as PROGRESS, with ``meta`` as its result."""
        return await self.store_result(task_id, meta, state)

    async def _put_record(self, record: Record) -> bool:
        """Store ``record`` as it is, and return whether it was written."""
        settings = self.settings
        if not settings.result_backend_always_retry:
            return await self._runtime.put(record)
        backoff = Backoff(
            settings.result_backend_base_sleep_between_retries_ms / 1000,
            settings.result_backend_max_sleep_between_retries_ms / 1000,
        )
        attempts = count(1)
        return await retried(
            lambda: self._runtime.put(record),  # the present runtime, since the last may have been closed meanwhile
            backoff,
            give_up=lambda: next(attempts) > settings.result_backend_max_retries,
        )

    # --- streams ---

    async def append(self, task_id: str, *values: Any, attempt: int = 0) -> int:
        """Append ``values``, in their order, to the stream of a task, which need not exist yet.

        All appends of one turn of the event loop, to any streams, take one round trip. ``AsyncResult.stream`` reads the
        items.

        Args:
            task_id: the task's id.
            values: at least one encodable value; each becomes an item.
            attempt: how often the task has been retried before.

        Returns:
            The number of the last item.

        Raises:
            StreamEnded: the task is final.
            StreamFull: the stream would hold more than ``stream_max_items``.
            EncodeError, ResultTooLarge: a value cannot be encoded.
            StoreUnavailable: the store cannot be reached; the items may have been stored or not.
            Unsupported: the store keeps no streams.

            If it raises, nothing of this call was stored, unless the store was unavailable.
        """
        if not values:
            raise ValueError(f"task {task_id!r}: there is nothing to append; give at least one value")
        return await self._put_items(self._encode_items(task_id, values, attempt))

    def _encode_items(self, task_id: str, values: Sequence[Any], attempt: int = 0) -> Append:
        """Return ``values`` ready to be stored; later changes to them do not matter."""
        store = self._runtime.store
        if not store.keeps_streams:
            raise Unsupported(
                f"{store.location} keeps no streams; report what happens by update_state() or progress() instead"
            )
        task_id = self._runtime.check(check_task_id(task_id))
        return Append(task_id, [store.codec.encode_item(task_id, value, stream.now(), attempt) for value in values])

    async def _put_items(self, append: Append) -> int:
        """Store what ``_encode_items`` made, and return the number of the last item."""
        return await self._runtime.batcher.append(append)
