"""An open feed: a task reads its events, and a call of the feed is awaited only as long as that task runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aioresult.abc import Feed, Sink
from aioresult.background import Unhooked, owned_task
from aioresult.errors import StoreUnavailable


class OpenFeed:
    """A feed, and the background task that reads it. ``run`` calls the feed's methods, which may hang over a dead
    connection.

    The feed is closed together with this. ``ended`` is called when the reading has ended.
    """

    def __init__(self, feed: Feed, deliver: Sink, location: str, ended: Callable[[], object]) -> None:
        feed.attach(deliver)
        self.feed = feed
        self._reader = owned_task(_read(feed, deliver, location), "aioresult feed")
        self._reader.add_done_callback(lambda _: ended())

    def check(self) -> None:
        """Raise the error with which the reading ended, if it has."""
        if self._reader.done():
            self._reader.result()

    async def run(self, call: Awaitable[None]) -> None:
        """Await a call of the feed. When the reading ends, interrupt the call, and raise the error of the reading."""
        try:
            async with asyncio.timeout(None) as limit:

                def interrupt(_: object) -> None:
                    with suppress(RuntimeError):  # the call has returned meanwhile
                        limit.reschedule(asyncio.get_running_loop().time())

                self._reader.add_done_callback(interrupt)
                try:
                    await call
                finally:
                    self._reader.remove_done_callback(interrupt)
        except TimeoutError:
            self.check()
            raise

    async def aclose(self) -> None:
        """End the reading and close the feed; may be called again where it was cancelled."""
        self._reader.cancel()
        try:
            await asyncio.wait([self._reader])
            if not self._reader.cancelled():
                self._reader.exception()  # raised by ``check`` before, or too late to matter
        finally:
            await self.feed.aclose()


async def _read(feed: Feed, deliver: Sink, location: str) -> None:
    async for task_id, record in Unhooked(feed):
        deliver(task_id, record)
    raise StoreUnavailable(f"{location}: the feed has ended")
