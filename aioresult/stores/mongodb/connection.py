"""The client of one store, and how it makes requests."""

from __future__ import annotations

import asyncio
from asyncio import sleep as pause
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from aioresult.errors import SettingsError
from aioresult.settings import Settings
from aioresult.stores.mongodb import clients
from aioresult.stores.mongodb.documents import Document
from aioresult.stores.mongodb.failures import TRANSIENT, reason_of, throttled, translated, unavailable
from aioresult.stores.mongodb.ranges import chunks
from aioresult.stores.notices import warn_once

ATTEMPTS: Final = 10
_BATCH: Final = 10_000
"""The most documents of one reply: with the usual hundred, more requests would be needed."""
_T = TypeVar("_T")
_U = TypeVar("_U")


class Connection:
    """Makes requests by the caller's client, or by its own, which is made at the first request.

    Attributes:
        target: the database and the collections.
        settings: the store's settings.
        location: hosts and database, for messages.
        count: called for each request.
        silence: seconds after which the server answers a change stream even without events.
    """

    def __init__(
        self,
        target: clients.Target,
        settings: Settings,
        count: Callable[[], None],
        silence: float,
        client: clients.Client | None = None,
    ) -> None:
        self.target = target
        self.settings = settings
        self.location = target.location
        self.count = count
        self.silence = silence
        self._client = client
        self._owns_client = client is None
        self._handles: clients.Handles | None = None
        self._expiring: set[str] = set()

    @property
    def at(self) -> clients.Handles:
        """The collections.

        Raises:
            StoreUnavailable: the driver finds no server for the URL, or options that exclude each other.
            SettingsError: the driver finds two values that contradict each other.
        """
        if self._handles is None:
            try:
                if self._client is None:
                    self._client = clients.open_client(self.target)
                self._handles = clients.open_handles(self._client, self.target)
            except PyMongoError as exc:
                raise unavailable(exc, self.location) from exc
            except ValueError as exc:
                raise SettingsError(f"the options for {self.location} cannot be used: {exc}") from exc
        return self._handles

    def why_crowded(self, streams: int) -> str:
        """Return why so many change streams cannot be open: they, and nobody else, would have a connection.

        That may be so for a client of the caller's; it is an empty string if there is room.
        """
        client: Any = self.at.database.client  # Motor declares a method where PyMongo has a property
        size = client.options.pool_options.max_pool_size  # 0 for any number
        if not size or size > streams:
            return ""
        return f"the client has maxPoolSize={size}, and each change stream takes a connection; it needs {streams + 1}"

    async def call(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Make a request; repeat it once if its connection was dead, and whenever the server asks for it."""
        repeated, asked_to_wait = False, 0
        while True:
            self.count()
            try:
                return await cancellable(request())
            except PyMongoError as exc:
                seconds = throttled(exc)
                if seconds is not None and asked_to_wait < ATTEMPTS:
                    asked_to_wait += 1
                    await pause(seconds)
                    continue
                dead = isinstance(exc, AutoReconnect) and not isinstance(exc, ServerSelectionTimeoutError)
                if repeated or not dead:
                    raise translated(exc, self.location) from exc
                repeated = True

    async def find(
        self, collection: clients.Collection, condition: Document, fields: Document | None = None
    ) -> list[Document]:
        """Return the documents that match ``condition``, or these ``fields`` of them."""
        return await self.call(lambda: collection.find(condition, fields, batch_size=_BATCH).to_list(None))

    async def find_ids(
        self, collection: clients.Collection, ids: Sequence[str], condition: Document, fields: Document | None = None
    ) -> list[Document]:
        """Return the documents of ``ids`` that match ``condition``, by as many queries as needed."""
        filters = [{"_id": {"$in": chunk}, **condition} for chunk in chunks(ids)]
        return [document for each in filters for document in await self.find(collection, each, fields)]

    async def delete(self, collection: clients.Collection, condition: Document) -> int:
        """Delete the documents that match ``condition``, and return how many."""
        return (await self.call(lambda: collection.delete_many(condition))).deleted_count

    async def let_expire(self, collection: clients.Collection) -> None:
        """Create the TTL index if it is missing; warn if the server refuses that."""
        if collection.name in self._expiring:
            return

        async def request() -> None:
            try:
                await collection.create_index("expires_at", expireAfterSeconds=0)
            except OperationFailure as exc:
                if exc.code in TRANSIENT:
                    raise
                warn_once(
                    self.location,
                    f"no TTL index on {collection.name}.expires_at: {reason_of(exc)}; what has expired is not shown, "
                    "but stays in the database until it is purged",
                )

        await self.call(request)
        self._expiring.add(collection.name)

    async def aclose(self) -> None:
        """Close the client, unless it is the caller's; the next request makes another."""
        client, self._client, self._handles = self._client, None, None
        if client is not None and self._owns_client:
            await clients.close_client(client, self.settings.connect_timeout)


async def cancellable(request: Awaitable[_T]) -> _T:
    """Await a request, and raise ``CancelledError`` if the task was cancelled meanwhile.

    Before Python 3.12, PyMongo may lose the cancellation, because ``asyncio.wait_for`` swallows it when the request has
    just been answered.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    answer = await request
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return answer


async def together(one: Awaitable[_T], other: Awaitable[_U]) -> tuple[_T, _U]:
    """Await two requests at the same time, both of them even if one fails."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second
