"""Groups in MongoDB: one document for each, in a collection of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from aioresult.record import ResultTree
from aioresult.stores.mongodb import clients
from aioresult.stores.mongodb.awaiting import Call
from aioresult.stores.mongodb.documents import Documents, is_over


class Groups:
    """The groups of one store.

    Args:
        documents: makes documents of groups, and groups of documents.
        at: gives the collections.
        call: makes a request, and repeats it once where the connection was dead.
    """

    def __init__(self, documents: Documents, at: Callable[[], clients.Handles], call: Call) -> None:
        self._documents = documents
        self._at = at
        self._call = call

    async def put(self, group_id: str, tree: ResultTree) -> None:
        """Do as ``Store.put_group``."""
        document = self._documents.encode_group(group_id, tree)
        await self._call(lambda: self._at().groups.replace_one({"_id": group_id}, document, upsert=True))

    async def get(self, group_id: str) -> ResultTree | None:
        """Do as ``Store.get_group``."""
        document = await self._call(lambda: self._at().groups.find_one({"_id": group_id}))
        if document is None or is_over(document, datetime.now(UTC)):
            return None
        return self._documents.decode_group(document)

    async def delete(self, group_id: str) -> None:
        """Do as ``Store.delete_group``."""
        await self._call(lambda: self._at().groups.delete_one({"_id": group_id}))
