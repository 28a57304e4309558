"""Items of a running task's stream: buffered, and stored in their order."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from aioresult.backend import Backend
from aioresult.background import Background
from aioresult.backoff import Backoff, retried, time_is_up
from aioresult.errors import AioResultError, StreamEnded, StreamFull
from aioresult.stream import Append, now

_PORTION: Final = 4 * 2**20
"""How many bytes of items are sent together: stores limit how much can be stored in one call."""


class Emitter:
    """Buffers the items of one task and stores them. Usable from any thread, but made in the event loop.

    Items are sent in the background, in batches. They stay in the buffer until they are stored.

    If the task's result is ignored, its items are ignored too, because no reader would see an end. While the store is
    unavailable, items are kept for ``timeout`` seconds.
    """

    def __init__(self, backend: Backend, task_id: str, ignored: bool, timeout: float) -> None:
        self._backend = backend
        self._task_id = task_id
        self._ignored = ignored
        self._timeout = timeout
        self._limit = backend.settings.stream_buffer
        self._codec = backend._runtime.store.codec
        self._location = backend._runtime.store.location
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._buffer: list[bytes] = []
        self._room = threading.Condition()
        self._error: BaseException | None = None
        self.lost: AioResultError | None = None
        """Why some items could not be stored."""
        self._drained: asyncio.Future[None] | None = None
        self._sending = Background(self._send, f"aioresult items of {task_id:.60}", pending=lambda: self._buffer)

    def emit(self, value: Any) -> None:
        """Append ``value`` soon; see the function ``emit``."""
        if self._ignored:
            return
        payload = self._codec.encode_item(self._task_id, value, now(), 0)
        in_loop = threading.get_ident() == self._thread
        with self._room:
            if len(self._buffer) >= self._limit and self._error is None:
                if in_loop:
                    raise StreamFull(
                        f"task {self._task_id!r}: {self._limit} items wait to be stored (stream_buffer); "
                        f"'await aioresult.flush()' waits until they are"
                    )
                self._room.wait_for(lambda: len(self._buffer) < self._limit or self._error is not None)
            if self._error is not None:
                raise self._error
            self._buffer.append(payload)
        if in_loop:
            self._sending.begin()
        else:
            self._loop.call_soon_threadsafe(self._sending.begin)

    async def send(self, value: Any) -> None:
        """Append ``value`` as soon as there is room for it; to be called in the event loop."""
        while len(self._buffer) >= self._limit and self._error is None:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)
        self.emit(value)

    async def _send(self) -> None:
        while self._buffer:
            items = _portion(list(self._buffer))
            try:
                put = partial(self._backend._put_items, Append(self._task_id, items))
                await retried(put, Backoff(), give_up=time_is_up(self._timeout))
            except Exception as exc:  # noqa: BLE001  (raised to the task, which would wait for ever otherwise)
                self.lost = self._why_lost(exc)
                self.close(self.lost)
                items = self._buffer
            with self._room:
                del self._buffer[: len(items)]
                self._room.notify_all()
            if self._drained is not None:
                self._drained.set_result(None)
                self._drained = None

    def _why_lost(self, exc: Exception) -> AioResultError:
        if isinstance(exc, AioResultError):
            return exc
        error = AioResultError(f"task {self._task_id!r}: its items could not be stored in {self._location}: {exc!r}")
        error.__cause__ = exc
        return error

    def close(self, error: BaseException) -> None:
        """Accept no more items: later calls of ``emit`` raise ``error``. What is in the buffer is still stored."""
        with self._room:
            if self._error is None or isinstance(self._error, StreamEnded):  # the reason is known a little later
                self._error = error
            self._room.notify_all()

    async def settle(self) -> None:
        """Wait until everything that was emitted is stored, since the final state is stored next."""
        await self._sending.finish()

    async def flush(self) -> None:
        """Wait until everything is stored; raise an error if some items could not be stored.

        A function in a thread may run an event loop of its own, which cannot await a task of the runner's loop.
        """
        if asyncio.get_running_loop() is self._loop:
            await self._sending.finish()
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._sending.finish(), self._loop))
        if self._error is not None:
            raise self._error


def _portion(items: list[bytes]) -> list[bytes]:
    """Return the items to send together: the first ones, and at least one."""
    size = 0
    for index, item in enumerate(items):
        size += len(item)
        if index and size > _PORTION:
            return items[:index]
    return items


current_emitter: ContextVar[Emitter] = ContextVar("aioresult_current_emitter")


def _current(what: str) -> Emitter:
    emitter = current_emitter.get(None)
    if emitter is None:
        raise AioResultError(
            f"{what}() is for the task that a TaskRunner is running, and none is running here; in a Celery task use "
            f"aioresult.integrations.celery.emit, and anywhere else Backend.append"
        )
    return emitter


def emit(value: Any) -> None:
    """Append ``value`` to the stream of the task that is running; ``AsyncResult.stream`` reads it.

    For functions that a ``TaskRunner`` runs. It returns at once; the item is stored soon, and always before the task's
    final state. When ``stream_buffer`` items wait to be stored, it blocks in a thread, and raises in a coroutine.

    Args:
        value: any encodable value.

    Raises:
        StreamFull: in a coroutine, the buffer is full: ``await aioresult.flush()`` waits until there is room.
        TaskRevokedError: the task was cancelled.
        EncodeError: ``value`` cannot be encoded.
        AioResultError: no task of a runner is running here, or earlier items could not be stored.
    """
    _current("emit").emit(value)


async def flush() -> None:
    """Wait until every item that the running task has emitted is stored.

    Raises:
        AioResultError: no task of a runner is running here, or some items could not be stored.
    """
    await _current("flush").flush()
