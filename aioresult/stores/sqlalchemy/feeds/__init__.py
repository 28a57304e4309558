"""How a database announces what is stored in it."""

from __future__ import annotations

from aioresult.polling import Read
from aioresult.stores.sqlalchemy.database import Database
from aioresult.stores.sqlalchemy.feeds.port import Push


def push_of(database: Database, read: Read) -> Push:
    """Return the object by which stores of this kind of database announce writes and receive announcements.

    If something must be polled in addition to the push, ``read`` is used.
    """
    if database.target.family == "sqlite":
        from aioresult.stores.sqlalchemy.feeds.sqlite import SQLitePush

        return SQLitePush(database)
    if database.target.family == "postgresql":
        from aioresult.stores.sqlalchemy.feeds.postgresql import PostgreSQLPush

        return PostgreSQLPush(database, read)
    return Push(database)
