"""How to read a table's columns by their types, and whether the table can be written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import CHAR, JSON, Connection, Dialect, Table, inspect

from aioresult.errors import SettingsError
from aioresult.stores.sqlalchemy.tables import full_name

_BYTES: Final = frozenset({"result", "children", "args", "kwargs", "stamps", "item"})
_TEXTS: Final = frozenset({"task_id", "status", "traceback", "name", "worker", "queue"})
_MYSQL: Final = frozenset({"mysql", "mariadb"})
_SERVERS: Final = frozenset({"postgresql", *_MYSQL})


def reading_of(name: str, kind: Any, dialect: Dialect) -> str | None:
    """Return the expression to select for the column ``name`` of the type ``kind``; ``None`` for the column itself.

    A column of fixed width is read without its padding, a text that is stored as bytes is read as text, and JSON is
    read as its text, because drivers would convert it in different ways.
    """
    if name in _TEXTS:
        if dialect.name in _MYSQL and _python_type(kind) is bytes:
            return f"CONVERT({name} USING utf8mb4)"
        return f"RTRIM({name})" if isinstance(kind, CHAR) and dialect.name in _SERVERS else None
    if name in _BYTES and isinstance(kind, JSON) and dialect.name == "postgresql":
        return f"CAST({name} AS text)"
    return None


def check_fitness(connection: Connection, table: Table, kinds: Mapping[str, Any], *, binary: bool) -> None:
    """Check that ``table`` can be written to. ``kinds`` are its columns' types; ``binary`` means bytes, not text.

    Raises:
        SettingsError: a column would change our bytes, or nothing prevents two rows for an id.
    """
    for name, kind in kinds.items():
        if name in _BYTES and not _takes_bytes(kind, connection.dialect, binary=binary):
            raise SettingsError(
                f"table {table.fullname}: its column {name} is of type {kind}, which does not hold the bytes that are "
                f"to be stored there, so that results can only be read; whoever may do it: "
                f"{_remedy(table, name, connection.dialect)}"
            )
    key = [column.name for column in table.columns if column.unique] or table.primary_key.columns.keys()
    # Without such a key, the other databases refuse our statements; MySQL would insert a second row.
    if connection.dialect.name in _MYSQL and key not in list(_unique_columns(connection, table)):
        names, place = ", ".join(key), full_name(table, connection.dialect)
        raise SettingsError(
            f"table {table.fullname} has no unique key on {names} alone, so that one task could get two results; "
            f"whoever may do it: CREATE UNIQUE INDEX {key[0]}_unique ON {place} ({names})"
        )


def _takes_bytes(kind: Any, dialect: Dialect, *, binary: bool) -> bool:
    if dialect.name == "sqlite":
        return True  # SQLite stores a type with each value
    found = None if isinstance(kind, JSON) else _python_type(kind)
    if found is str:  # MySQL interprets bytes as text in the column's character set
        return dialect.name in _MYSQL and not binary
    return found is bytes


def _python_type(kind: Any) -> type | None:
    """Return the Python type to which SQLAlchemy converts values of the type ``kind``."""
    try:
        found: type = kind.python_type
    except NotImplementedError:
        return None
    return found


def _remedy(table: Table, name: str, dialect: Dialect) -> str:
    alter = f"ALTER TABLE {full_name(table, dialect)}"
    if dialect.name in _MYSQL:
        return f"{alter} MODIFY {name} LONGBLOB"
    text = f"convert_to(CAST({name} AS text), 'UTF8')"
    return f"{alter} ALTER COLUMN {name} TYPE bytea USING {text}"


def _unique_columns(connection: Connection, table: Table) -> Iterator[list[str | None]]:
    """Give the columns of each unique key of ``table``, except keys over parts of columns."""
    inspector = inspect(connection)
    yield list(inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"])
    for index in inspector.get_indexes(table.name, schema=table.schema):
        options = index.get("dialect_options", {})
        if index["unique"] and not options.get("mysql_length") and not options.get("mariadb_length"):
            yield list(index["column_names"])
