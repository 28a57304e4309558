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


class ForeignNews(PollingFeed):
    """Polls for a feed that only some writers notify, from ``begin`` to ``end``; it may begin again.

    ``emit`` is called with new records, ``fail`` with the error that has ended the polling.
    """

    def __init__(self, read: Read, settings: Settings, emit: Sink, fail: Callable[[Exception], None]) -> None:
        super().__init__(read, settings.poll_interval, settings.poll_min_interval, share=_SHARE)
        self._emit = emit
        self._fail = fail
        self._task: asyncio.Task[None] | None = None

    @property
    def polled(self) -> bool:
        """Whether it was begun, and has not been ended since."""
        return self._task is not None

    def begin(self, ids: Collection[str]) -> None:
        """Begin to poll for ``ids``."""
        self.also_read(ids)
        self._task = owned_task(self._poll(), "aioresult polling beside notifications")

    async def _poll(self) -> None:
        try:
            async for task_id, record in self:
                self._emit(task_id, record)
        except Exception as exc:  # noqa: BLE001  (raised by the feed's iteration)
            self._fail(exc)

    async def end(self) -> None:
        """End the polling, if there is any."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self.unwatch(list(self._watched))
