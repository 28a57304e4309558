"""The backend: a recipe for a store, usable from any event loop, and everything that writes to it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self, TypeVar, cast, overload

from aioresult import groups, states, stream
from aioresult import result as results
from aioresult.abc import Capabilities, Store
from aioresult.backoff import Backoff
from aioresult.default import Result, get_default, set_default
from aioresult.errors import BackendNotConfigured, SettingsError, StoreUnavailable, TaskRevokedError, Unsupported
from aioresult.record import Record, ResultTree, check_task_id, record_of
from aioresult.runtime import Runtime, Stats
from aioresult.runtimes import Runtimes
from aioresult.settings import make_settings
from aioresult.stores import opener
from aioresult.stream import Append

T = TypeVar("T")

_META: Final = frozenset(
    ["children", "group_id", "parent_id", "name", "args", "kwargs", "worker", "retries", "queue", "stamps"]
)


class Backend:
    """Where results are stored and awaited.

    A backend is a recipe: it may be made anywhere, also before any event loop runs, and connects at first use. It
    keeps one set of connections for each event loop that uses it, so that the same backend works in ``asyncio.run``
    twice, in a test's fresh loop, and from other threads. It is closed with its loop, or by ``aclose()`` or ``async
    with``, and opens again when it is used again. After a fork the child starts afresh.

    Args:
        url_or_store: a URL such as ``redis://localhost:6379/0``, a ``Store``, or a client of redis-py, PyMongo, Motor
            or SQLAlchemy, which remains the caller's to close. ``None`` takes the setting ``result_backend``. A
            store serves the loop that uses it first, and ``Store.another`` each further one; a client serves those that
            its driver lets it serve: redis-py's any, the others' the one that they were made in.
        settings: see ``aioresult.Settings``; Celery's names, times in seconds. A ready ``Store`` has its own.

    Raises:
        SettingsError: the URL or a setting is not understood.
        MissingDriver: the store's driver is not installed.
    """

    def __init__(self, url_or_store: object = None, **settings: Any) -> None:
        if isinstance(url_or_store, Store) and settings:
            raise SettingsError(f"a ready store has settings of its own: give {', '.join(settings)} to the store")
        self.settings = url_or_store.settings if isinstance(url_or_store, Store) else make_settings(settings)
        source = url_or_store if url_or_store is not None else self.settings.result_backend
        if source is None:
            raise BackendNotConfigured("a backend needs a URL, a store or a client, or the setting result_backend")
        self._runtimes = Runtimes(opener(source, self.settings))

    def __repr__(self) -> str:
        runtimes = self._runtimes.all()
        if not runtimes:
            return f"<{type(self).__name__} (not in use)>"
        waiting = sum(runtime.hub.waiting for runtime in runtimes)
        return f"<{type(self).__name__} {runtimes[0].store.location} loops={len(runtimes)} waiting={waiting}>"

    @property
    def runtime(self) -> Runtime:
        """What belongs to the running event loop, made at its first use."""
        return self._runtimes.current()

    # --- results ---

    @overload
    def AsyncResult(self, task_id: str, *, parent: Result | None = None) -> results.AsyncResult[Any]: ...

    @overload
    def AsyncResult(
        self, task_id: str, *, result_type: type[T], parent: Result | None = None
    ) -> results.AsyncResult[T]: ...

    def AsyncResult(  # noqa: N802  (named as in Celery)
        self, task_id: str, *, result_type: type[T] | None = None, parent: Result | None = None
    ) -> results.AsyncResult[T]:
        """Return the result of ``task_id`` in this backend."""
        return results.AsyncResult(task_id, self, result_type=result_type, parent=parent)

    def GroupResult(  # noqa: N802  (named as in Celery)
        self, group_id: str | None = None, results: Iterable[Result] = (), parent: Result | None = None
    ) -> groups.GroupResult:
        """Return a group of results in this backend."""
        return groups.GroupResult(group_id, results, parent, backend=self)

    def result_from_tree(self, tree: ResultTree) -> Result:
        """Return the result or group in this backend that Celery's tuple form describes (``Record.children``)."""
        return groups.from_tree(tree, self)

    async def restore_group(self, group_id: str) -> groups.GroupResult | None:
        """Return the saved group ``group_id``, or ``None`` where none is saved."""
        return await groups.GroupResult.restore(group_id, self)

    async def save_group(self, group: groups.GroupResult) -> None:
        """Save ``group``, so that ``restore_group`` gives it back."""
        await group.save(self)

    async def delete_group(self, group_id: str) -> None:
        """Delete the saved group ``group_id``; its members' results stay."""
        await self.GroupResult(group_id).delete()

    # --- writing: each returns whether it wrote ---

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
        """Store a state of a task and wake whoever waits for it.

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
            Whether it was written: not where results are ignored, and not where what is stored may not be replaced
            (SUCCESS never; another final state only by a final one).

        Raises:
            EncodeError: the value cannot be encoded; nothing was stored.
            StoreUnavailable: the store cannot be reached.
        """
        task_id = check_task_id(task_id)
        if meta and (unknown := meta.keys() - _META):
            raise TypeError(
                f"store_result() got unknown meta {', '.join(sorted(unknown))}; known are {', '.join(sorted(_META))}"
            )
        if self.settings.ignores(state, ignore_result):
            return False
        return await self.put_record(record_of(task_id, result, state, traceback, **meta))

    async def mark_as_started(self, /, task_id: str, **meta: Any) -> bool:
        """Store STARTED with ``meta`` as its result; by default this process's id and host, as workers do."""
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

    async def append(self, task_id: str, *values: Any, attempt: int = 0) -> int:
        """Append ``values``, in their order, to the stream of a task, which need not be known yet.

        What is appended in one turn of the event loop, to any streams, is one round trip. ``AsyncResult.stream`` reads
        it.

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

            Where it raises, nothing of this call was stored, unless the store was unavailable.
        """
        if not values:
            raise ValueError(f"task {task_id!r}: there is nothing to append; give at least one value")
        return await self.put_items(self.encode_items(task_id, values, attempt))

    def encode_items(self, task_id: str, values: Sequence[Any], attempt: int = 0) -> Append:
        """Return ``values`` ready to be stored; later changes to them do not matter."""
        store = self.runtime.store
        if not store.keeps_streams:
            raise Unsupported(
                f"{store.location} keeps no streams; report what happens by update_state() or progress() instead"
            )
        task_id = self.runtime.check(check_task_id(task_id))
        return Append(task_id, [store.codec.encode_item(task_id, value, stream.now(), attempt) for value in values])

    async def put_items(self, append: Append) -> int:
        """Store what ``encode_items`` made, and return the number of the last item."""
        return await self.runtime.batcher.append(append)

    async def forget(self, task_id: str) -> bool:
        """Delete the result and the stream of ``task_id``, whether or not there is one."""
        runtime = self.runtime
        await runtime.batcher.delete(runtime.check(check_task_id(task_id)))
        return True

    async def put_record(self, record: Record) -> bool:
        """Store ``record`` as it is, and return whether it was written."""
        settings = self.settings
        if not settings.result_backend_always_retry:
            return await self.runtime.put(record)
        backoff = Backoff(
            settings.result_backend_base_sleep_between_retries_ms / 1000,
            settings.result_backend_max_sleep_between_retries_ms / 1000,
        )
        attempt = 0
        while True:
            try:
                return await self.runtime.put(record)  # the present one: the last may have been closed meanwhile
            except StoreUnavailable:
                attempt += 1
                if attempt > settings.result_backend_max_retries:
                    raise
                await asyncio.sleep(backoff.next())

    # --- reading and managing ---

    async def fetch(self, task_id: str) -> Record:
        """Return the record of ``task_id`` as it is now; PENDING where nothing is stored.

        Raises:
            DecodeError: something is stored that cannot be read.
        """
        task_id = check_task_id(task_id)
        record = await self.runtime.look(task_id)
        if record is None:
            return Record(id=task_id)
        if record.error is not None:
            raise record.error
        return record

    async def fetch_many(self, ids: Iterable[str]) -> dict[str, Record]:
        """Return the records of those of ``ids`` that have one, in one read; unreadable ones have an ``error``."""
        return await self.runtime.look_many([check_task_id(task_id) for task_id in ids])

    async def purge(self) -> int:
        """Delete expired results and return how many; 0 where the store expires them by itself."""
        async with self.runtime.calling() as store:
            return await store.purge()

    async def ping(self) -> None:
        """Make one round trip to the store, or raise ``StoreUnavailable``."""
        async with self.runtime.calling() as store:
            await store.ping()

    async def capabilities(self) -> Capabilities:
        """Say how results are pushed here, and why so."""
        async with self.runtime.calling() as store:
            return await store.capabilities()

    def stats(self) -> Stats:
        """Return the counters of the running event loop."""
        return self.runtime.stats()

    async def aclose(self) -> None:
        """Close what this backend has opened in the running event loop; whoever still waits gets an error."""
        await self._runtimes.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


def configure(url_or_store: object = None, **settings: Any) -> Backend:
    """Make the backend that this process uses where none is given, and return it. See ``Backend`` for the arguments."""
    backend = Backend(url_or_store, **settings)
    set_default(backend)
    return backend


def get_backend() -> Backend:
    """Return the configured backend; without one, the backend of the environment variable ``AIORESULT_URL``.

    Raises:
        BackendNotConfigured: there is neither.
    """
    return cast("Backend", get_default())
