"""How a database tells of what is stored in it."""

from __future__ import annotations

from aioresult.stores.sqlalchemy.database import Database
from aioresult.stores.sqlalchemy.feeds.port import Polling, Push


def push_of(database: Database) -> Push:
    """Return the way in which the stores of this kind of database announce what they write, and hear of it."""
    if database.target.family == "sqlite":
        from aioresult.stores.sqlalchemy.feeds.sqlite import SQLitePush

        return SQLitePush(database)
    if database.target.family == "postgresql":
        from aioresult.stores.sqlalchemy.feeds.postgresql import PostgreSQLPush

        return PostgreSQLPush(database)
    return Polling(database)
