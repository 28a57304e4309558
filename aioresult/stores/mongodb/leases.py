"""Leases of runners in MongoDB: a document for each, whose end the server computes by its own clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from pymongo.errors import OperationFailure

from aioresult.errors import Unsupported
from aioresult.stores.mongodb.awaiting import Call
from aioresult.stores.mongodb.clients import Handles
from aioresult.stores.mongodb.documents import Document
from aioresult.stores.mongodb.failures import is_refusal, reason_of
from aioresult.stores.mongodb.ranges import chunks


class Leases:
    """The leases of one store.

    Args:
        location: of the database, for messages.
        at: gives the collections.
        call: makes a request, and repeats it once where the connection was dead.
    """

    def __init__(self, location: str, at: Callable[[], Handles], call: Call) -> None:
        self._location = location
        self._at = at
        self._call = call

    async def renew(self, runner: str, seconds: float) -> None:
        """Set when a lease ends.

        Raises:
            Unsupported: the server refuses that, for want of a right or because it does not compute dates.
        """
        end = {"$add": ["$$NOW", max(1, round(seconds * 1000))]}

        async def request() -> None:
            try:
                await self._at().runners.update_one({"_id": runner}, [{"$set": {"expires_at": end}}], upsert=True)
            except OperationFailure as exc:
                if is_refusal(exc):
                    raise Unsupported(
                        f"a runner can keep no lease: {self._location} refuses to write to the collection "
                        f"{self._at().runners.name} ({reason_of(exc)}); this takes MongoDB 4.2 and the role readWrite"
                    ) from exc
                raise

        await self._call(request)

    async def end(self, runner: str) -> None:
        """Delete a lease."""
        await self._call(lambda: self._at().runners.delete_one({"_id": runner}))

    async def ended(self, runners: Sequence[str]) -> Collection[str]:
        """Return those that have none in effect."""
        alive: set[str] = set()
        for part in chunks(runners):
            alive.update(document["_id"] for document in await self._call(partial(self._find, part)))
        return [runner for runner in runners if runner not in alive]

    async def _find(self, runners: Sequence[str]) -> list[Document]:
        in_effect = {"$gt": ["$expires_at", "$$NOW"]}
        found = self._at().runners.find({"_id": {"$in": runners}, "$expr": in_effect}, {"_id": 1})
        documents: list[Document] = await found.to_list(None)
        return documents
