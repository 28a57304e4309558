"""What stores import sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

from importlib import import_module

for name in """
    aioresult.patches aioresult.stores.memory aioresult.stores.mongodb aioresult.stores.redis
    aioresult.stores.sqlalchemy.dialects.mysql aioresult.stores.sqlalchemy.dialects.postgresql
    aioresult.stores.sqlalchemy.dialects.sqlite aioresult.stores.sqlalchemy.feeds.postgresql
    aioresult.stores.sqlalchemy.feeds.sqlite aioresult.stores.sqlalchemy.store
    aioresult.stores.sqlalchemy.streams.mysql aioresult.stores.sqlalchemy.streams.postgresql
    aioresult.stores.sqlalchemy.streams.sqlite aiosqlite asyncmy asyncpg
    sqlalchemy.dialects.mysql.asyncmy sqlalchemy.dialects.postgresql.asyncpg sqlalchemy.dialects.sqlite.aiosqlite
""".split():
    import_module(name)
