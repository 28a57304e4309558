"""What psycopg relies on in PostgreSQL's sessions, and does not ask for by itself.

It sends and receives text. With ``standard_conforming_strings=off`` it stores arrays of bytes wrongly, and raises no
error; with a ``DateStyle`` other than ISO it reads no dates; with ``client_encoding=SQL_ASCII`` it gives bytes in place
of text. asyncpg sends and receives binary values, and always asks for UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from aioresult.errors import SettingsError

if TYPE_CHECKING:
    import psycopg

ENCODING: Final = {"client_encoding": "UTF8"}
"""The argument of libpq. PostgreSQL and all poolers know it from the beginning of a session."""
_NEEDED: Final = {"DateStyle": "ISO", "standard_conforming_strings": "on"}


def prepare(engine: AsyncEngine) -> None:
    """Set what psycopg relies on in each new session of ``engine``, where the server has it otherwise."""

    def on_connect(connection: Any, _record: object) -> None:
        if not (wrong := _wrong(connection.driver_connection, _NEEDED)):
            return
        connection.autocommit = True  # a pooler may refuse transactions; and a rollback would undo it
        cursor = connection.cursor()
        for name in wrong:
            cursor.execute(f"SET {name} = {_NEEDED[name]}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", on_connect)


def check(connection: psycopg.AsyncConnection) -> None:
    """Check a session, which may belong to an engine of the caller's.

    Raises:
        SettingsError: it differs from what psycopg relies on.
    """
    needed = {**_NEEDED, **ENCODING}
    if wrong := _wrong(connection, needed):
        settings = " ".join(f"-c {name}={needed[name]}" for name in wrong)
        raise SettingsError(
            f"sessions with {' and '.join(wrong)} cannot be used with psycopg, which would change or not understand "
            f"values: make the engine with connect_args={{'options': '{settings}'}}, or hand over the URL"
        )


def _wrong(connection: psycopg.AsyncConnection, needed: Mapping[str, str]) -> list[str]:
    """Return the names of parameters that the server has reported with other values; it reports all of these."""
    found = {name: connection.info.parameter_status(name) or needed[name] for name in needed}
    return [name for name in needed if found[name].partition(",")[0] != needed[name]]
