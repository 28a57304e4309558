"""Results that other programs store, found by polling where nothing announces them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from aioresult.abc import Sink
from aioresult.background import owned_task
from aioresult.polling import PollingFeed, Read
from aioresult.settings import Settings

_SHARE: Final = 0.2
"""The largest part of the time that polling may take, because it must not slow down the push."""


class ForeignNews:
    """Polls for a feed that only some writers notify, from ``begin`` to ``aclose``.

    ``emit`` is called with new records, ``fail`` with the error that has ended the polling.
    """

    def __init__(self, read: Read, settings: Settings, emit: Sink, fail: Callable[[Exception], None]) -> None:
        self._read = read
        self._settings = settings
        self._emit = emit
        self._fail = fail
        self._polling: PollingFeed | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def polled(self) -> bool:
        """Whether it is polling."""
        return self._polling is not None

    def begin(self, ids: Collection[str]) -> None:
        """Begin to poll for ``ids``."""
        settings = self._settings
        self._polling = PollingFeed(self._read, settings.poll_interval, settings.poll_min_interval, share=_SHARE)
        self._polling.also_read(ids)
        self._task = owned_task(self._poll(self._polling), "aioresult polling beside notifications")

    def watch(self, ids: Collection[str]) -> None:
        """Poll for ``ids`` as well."""
        if self._polling is not None:
            self._polling.also_read(ids)

    async def unwatch(self, ids: Collection[str]) -> None:
        """Stop polling for ``ids``."""
        if self._polling is not None:
            await self._polling.unwatch(ids)

    async def _poll(self, polling: PollingFeed) -> None:
        try:
            async for task_id, record in polling:
                self._emit(task_id, record)
        except Exception as exc:  # noqa: BLE001  (raised by the feed's iteration)
            self._fail(exc)

    async def aclose(self) -> None:
        """End the polling; harmless when there is none. It may begin again."""
        self._polling = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
