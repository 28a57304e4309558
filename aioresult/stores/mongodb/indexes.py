"""The index by which MongoDB deletes what has expired."""

from __future__ import annotations

from pymongo.errors import OperationFailure

from aioresult.stores.mongodb import clients
from aioresult.stores.mongodb.failures import TRANSIENT, reason_of
from aioresult.stores.notices import warn_once


async def create_ttl_index(collection: clients.Collection, location: str) -> None:
    """Create the index unless it is there; warn where the server refuses that."""
    try:
        await collection.create_index("expires_at", expireAfterSeconds=0)
    except OperationFailure as exc:
        if exc.code in TRANSIENT:
            raise
        warn_once(
            location,
            f"no TTL index on {collection.name}.expires_at: {reason_of(exc)}; what has expired is not shown, but "
            "stays in the database until it is purged",
        )
