"""Running functions in this process, with their states and results stored like those of any task queue."""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import Executor
from typing import Any, NoReturn, ParamSpec, Self, TypeVar, overload

import msgspec

from aioresult import states
from aioresult.backend import Backend, get_backend
from aioresult.background import owned_task
from aioresult.default import check_backend
from aioresult.errors import AioResultError, SettingsError, TaskRevokedError, Unsupported
from aioresult.jobs import Job
from aioresult.leases import Lease
from aioresult.performing import Slots, perform
from aioresult.record import check_task_id
from aioresult.recording import Outcome, Recorder, cancelled, meta_of
from aioresult.result import AsyncResult

T = TypeVar("T")
P = ParamSpec("P")
logger = logging.getLogger("aioresult")


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    task_id: str | None = None
    ignore_result: bool | None = None
    once: bool = False


class TaskRunner:
    """Runs functions as tasks whose states and results are stored, and can be awaited anywhere.

    Coroutine functions run as asyncio tasks, plain functions in an executor. What a generator function yields (an
    asynchronous or a plain one) becomes an item of the task's stream (``AsyncResult.stream``), and so does what any
    function passes to ``emit``; a generator is paused while the store is slower. The value of a plain generator is what
    it returns, that of an asynchronous one is ``None``. STARTED is stored unless ``task_track_started`` is ``False``;
    then progress, and SUCCESS, FAILURE, or REVOKED if the task was cancelled. Leaving ``async with`` waits for the
    running tasks; leaving it by an exception, or being cancelled while it waits, cancels them first. While the store is
    unavailable, results are kept, and stored when it is back. Results that could not be stored are logged, and raised
    at the end of the block as ``StoreUnavailable``, or as ``AioResultError`` where the store refused them.

    A task stops when another process stores a final state for it, usually by ``AsyncResult.revoke``: a coroutine is
    cancelled, a generator closed, and in a thread ``revoked()`` becomes true, and ``emit`` and ``progress`` raise. What
    it returns is dropped. While tasks run, the runner renews a lease in the store. When its process is gone and the
    lease has ended, callers that wait for one of its tasks, or read its stream, get ``TaskLost``.

    Whatever a function raises is a FAILURE. ``SystemExit`` and ``KeyboardInterrupt`` also leave the event loop, as in
    asyncio, but only after the FAILURE is stored, and only if a coroutine raised them, not a function in the executor.

    Args:
        backend: where results are stored; by default the configured backend.
        executor: for plain functions; by default the loop's own thread pool. It remains the caller's to shut down.
        max_running: how many tasks may run at a time; the others wait as PENDING.
        store_timeout: how many seconds a result is kept while the store is unavailable.
        lease: after how many seconds without a renewal the tasks of this runner are lost; ``None`` for never. It is
            renewed after a third of that, which must be long enough to reconnect.
    """

    def __init__(
        self,
        backend: Backend | None = None,
        *,
        executor: Executor | None = None,
        max_running: int | None = None,
        store_timeout: float = 300.0,
        lease: float | None = 30.0,
    ) -> None:
        self._backend = check_backend(backend)
        self._executor = executor
        self._slots = Slots(max_running)
        self._calls: dict[str, asyncio.Task[Outcome | None]] = {}
        self._recorder = Recorder(store_timeout)
        self._lease = Lease(lease)
        self._recordings: set[asyncio.Task[None]] = set()
        self._process_ends = False

    @property
    def backend(self) -> Backend:
        """The backend given, or the configured one."""
        if self._backend is None:
            self._backend = get_backend()
        return self._backend

    @property
    def running(self) -> int:
        """How many tasks have been submitted and are not finished."""
        return len(self._calls)

    @overload
    def submit(
        self, fn: Callable[P, Generator[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncResult[T]: ...
    @overload
    def submit(
        self, fn: Callable[P, AsyncIterator[Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncResult[None]: ...
    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncResult[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Start ``fn(*args, **kwargs)`` and return its result, which may be awaited here or elsewhere by its id."""
        return self._submit(_Options(), fn, args, kwargs)

    def with_options(
        self, *, task_id: str | None = None, ignore_result: bool | None = None, once: bool = False
    ) -> Callable[..., AsyncResult[Any]]:
        """Return a ``submit`` that uses this id, or that overrides ``task_ignore_result``.

        Args:
            task_id: the id to use.
            ignore_result: whether to store nothing of the task.
            once: call the function only if no state is stored under ``task_id``. The store decides, so that only one of
                any number of calls, in any process, runs it; the others return the result to wait for.

        Raises:
            InvalidTaskId: the id is empty or not a string.
            TypeError: ``once`` without an id.
        """
        if once and task_id is None:
            raise TypeError("once=True needs a task_id: the key under which the work is done only once")
        checked = None if task_id is None else check_task_id(task_id)
        options = _Options(task_id=checked, ignore_result=ignore_result, once=once)

        def submit(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
            return self._submit(options, fn, args, kwargs)

        return submit

    def _submit(
        self, options: _Options, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncResult[Any]:
        if not callable(fn):
            raise TypeError(
                f"a runner takes a function and its arguments, not {type(fn).__name__}: "
                f"submit(fn, 1) in place of submit(fn(1))"
            )
        task_id = options.task_id or str(uuid.uuid4())
        ignored = self.backend.settings.task_ignore_result if options.ignore_result is None else options.ignore_result
        if options.once:
            self._check_once(task_id, ignored)
        if task_id in self._calls and not options.once:
            raise AioResultError(f"task {task_id!r} is running already; give each run an id of its own")
        if task_id not in self._calls:
            self._begin(task_id, options, ignored, functools.partial(fn, *args, **kwargs))
        return AsyncResult(task_id, self.backend, ignored=ignored)

    def _check_once(self, task_id: str, ignored: bool) -> None:
        store = self.backend._runtime.store
        if ignored:
            raise SettingsError(
                f"task {task_id!r}: once=True needs a stored result, but results are ignored here "
                f"(task_ignore_result, ignore_result)"
            )
        if not store.keeps_leases:
            raise Unsupported(
                f"task {task_id!r}: once=True needs a store that keeps leases, which {store.location} does not; "
                f"use memory, Redis, MongoDB or a SQL database"
            )
        if self._lease.mark(self.backend, store) is None:
            raise SettingsError(
                f"task {task_id!r}: once=True needs the runner's lease, which is switched off (lease=None) or refused "
                f"by the store: without it, a process that dies would keep its task from ever being done"
            )

    def _begin(self, task_id: str, options: _Options, ignored: bool, call: functools.partial[Any]) -> None:
        meta = meta_of(self.backend, call)
        job = Job(
            self.backend,
            task_id,
            ignored=ignored,
            once=options.once,
            lease=self._lease,
            recorder=self._recorder,
        )
        job.running = owned_task(self._run(job, options, call), f"aioresult task {task_id:.60}")
        self._calls[task_id] = job.running
        if options.task_id is None:  # nothing is stored yet under a new id
            job.listen()
        recording = owned_task(self._record(job, meta), f"aioresult record of {task_id:.60}")
        self._recordings.add(recording)
        recording.add_done_callback(self._recordings.discard)

    def cancel(self, result: AsyncResult[Any] | str) -> bool:
        """Cancel a task, which is then stored as REVOKED. A plain function continues in its thread, and its value is
        dropped.

        Returns:
            Whether the task was still running here.
        """
        task = self._calls.get(str(result))
        return task is not None and task.cancel()

    # --- one task ---

    async def _run(self, job: Job, options: _Options, call: functools.partial[Any]) -> Outcome | None:
        """Run ``call`` and return how it ended; ``None`` where there is nothing to store."""
        job.enter()
        if options.task_id is not None and not options.once:
            await job.look()
            if job.stop.told is not None:  # a cancellation would end it only where it waits for something
                return None
        async with self._slots.slot():
            try:
                if options.once:
                    if not await job.claim():
                        return None
                elif self.backend.settings.task_track_started is not False:
                    job.started()
                return await perform(call, job.emitter, self._executor)
            except asyncio.CancelledError:
                raise
            except BaseException as exc:  # noqa: BLE001  (the task's own: stored as its result, and then raised by _record)
                return Outcome(states.FAILURE, exc, isinstance(exc, (KeyboardInterrupt, SystemExit)))

    async def _record(self, job: Job, meta: dict[str, Any]) -> None:
        """Store how the call ended, even if it is cancelled before its first step."""
        running = job.running
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:  # the loop is ending, and the task with it
            running.cancel()
            await asyncio.wait([running])
        if running.cancelled():
            outcome: Outcome | None = cancelled()
            job.close(TaskRevokedError("cancelled"))
        else:
            outcome = running.result()
            job.close(AioResultError(f"task {job.id!r} has ended"))
        try:
            await job.settle()
            await self._store(job, outcome, meta)
        except asyncio.CancelledError:
            logger.warning("the result of task %r may be lost: its event loop ends before it is stored", job.id)
            raise
        finally:
            del self._calls[job.id]
            job.leave()
            # A second exception of this kind would interrupt the clean-up.
            if outcome is not None and outcome.ends_process and not self._process_ends:
                self._process_ends = True
                asyncio.get_running_loop().call_soon(_raise, outcome.value)

    async def _store(self, job: Job, outcome: Outcome | None, meta: dict[str, Any]) -> None:
        """Store ``outcome``, unless another process has already stored how the task ended."""
        job.stop.leave()
        if outcome is None or job.stop.told is not None:
            return
        if job.emitter.lost is not None and outcome.state == states.SUCCESS:
            outcome = Outcome(states.FAILURE, job.emitter.lost)  # a reader that sees SUCCESS must have got all items
        if not self.backend.settings.ignores(outcome.state, job.ignored):
            await self._recorder.record(self.backend, job.id, outcome, meta, job.overs)

    # --- opening and closing ---

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        leaving = exc
        while self._recordings:
            if leaving is not None:
                for call in self._calls.values():
                    call.cancel()
            try:
                await asyncio.wait(self._recordings)
            except asyncio.CancelledError as cancelled:  # as in a TaskGroup: nothing started here keeps running
                leaving = cancelled
        await self._lease.end()
        if leaving is None:
            self._recorder.raise_losses()
        elif leaving is not exc:
            raise leaving


def _raise(exc: BaseException) -> NoReturn:
    raise exc
