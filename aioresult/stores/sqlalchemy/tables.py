"""Celery's two tables, as Celery 5.7 defines them, and ours for streams and leases; and which of them a database has.

Celery has one set of table objects for a whole process and renames them per application. Here each set of names has its
own table objects, which are never changed, and which stores share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.mysql import DATETIME, LONGBLOB, LONGTEXT
from sqlalchemy.ext.compiler import compiles

from aioresult.settings import Settings

COLUMNS: Final = tuple(
    "task_id status result date_done traceback children name args kwargs worker retries queue stamps".split()
)
"""The columns of a task's row, in the order of our rows; the database sets the ``id``."""

EXTENDED: Final = frozenset({"name", "args", "kwargs", "worker", "retries", "queue", "stamps"})
"""Columns that are written only if ``result_extended`` is on; an update without it does not change them."""

_LONGEST: Final = 63
"""Bytes of a name on PostgreSQL; MySQL takes one more."""

Kind = Literal["task", "group", "stream", "runner"]
"""One of the four tables."""


class _TaskId(String):
    """The type of ids: in MySQL's other collations, ids that differ in case, accents or spaces may be equal."""


@compiles(_TaskId, "mysql", "mariadb")
def _id_on_mysql(_type: _TaskId, compiler: Any, **_: Any) -> str:
    dialect = compiler.dialect
    if dialect.is_mariadb:
        collation = "utf8mb4_nopad_bin"
    elif (dialect.server_version_info or ()) >= (8, 0, 17):
        collation = "utf8mb4_0900_bin"
    else:
        collation = "utf8mb4_bin"  # the best collation there is; it ignores spaces at the end
    return f"VARCHAR(155) COLLATE {collation}"


_ID = String(155).with_variant(_TaskId(155), "mysql", "mariadb")
_BYTES = LargeBinary().with_variant(LONGBLOB, "mysql", "mariadb")
_TEXT = Text().with_variant(LONGTEXT, "mysql", "mariadb")
_DATE = DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")
"""In tables created by Celery on MySQL, results and tracebacks are limited to 64 KiB, and dates are whole seconds."""


class Tables:
    """Definitions of the tables for results, groups, streams and leases of runners, under these names and schemas."""

    def __init__(self, names: Mapping[str, str], schemas: Mapping[str, str]) -> None:
        self._names = names
        self._schemas = schemas
        self._metadata = MetaData()
        self.task = self._table(
            "task",
            "celery_taskmeta",
            self._id("task", "task_id_sequence"),
            Column("task_id", _ID, unique=True),
            Column("status", String(50)),
            Column("result", _BYTES),
            Column("date_done", _DATE),
            Column("traceback", _TEXT),
            Column("children", _BYTES),
            Column("name", String(155)),
            Column("args", _BYTES),
            Column("kwargs", _BYTES),
            Column("worker", String(155)),
            Column("retries", Integer),
            Column("queue", String(155)),
            Column("stamps", _BYTES),
        )
        self.group = self._table(
            "group",
            "celery_tasksetmeta",
            self._id("group", "taskset_id_sequence"),
            Column("taskset_id", _ID, unique=True),
            Column("result", _BYTES),
            Column("date_done", _DATE),
        )
        # A row for each item of each stream.
        self.stream = self._table(
            "stream",
            "celery_taskstream",
            Column("task_id", _ID, primary_key=True),
            Column("seq", BigInteger, primary_key=True, autoincrement=False),
            Column("item", _BYTES, nullable=False),
            Column("date", _DATE, nullable=False),
        )
        # The end of each runner's lease.
        self.runner = self._table(
            "runner",
            "celery_taskrunner",
            Column("runner", String(100), primary_key=True),
            Column("expires", BigInteger, nullable=False),
        )

    def of(self, kind: Kind) -> Table:
        """Return the definition of one table."""
        return {"task": self.task, "group": self.group, "stream": self.stream, "runner": self.runner}[kind]

    def _id(self, kind: Kind, sequence: str) -> Column[int]:
        numbers = Sequence(sequence, schema=self._schemas.get(kind))
        return Column("id", Integer, numbers, primary_key=True, autoincrement=True)

    def _table(self, kind: Kind, usual_name: str, *columns: Column[Any]) -> Table:
        name, schema = self._names.get(kind) or usual_name, self._schemas.get(kind)
        table = Table(
            name,
            self._metadata,
            *columns,
            schema=schema,
            sqlite_autoincrement=columns[0].name == "id",
            mysql_charset="utf8mb4",
            mariadb_charset="utf8mb4",
            mysql_engine="InnoDB",  # the server's default may have no transactions
            mariadb_engine="InnoDB",
        )
        for column in columns:
            if column.type is _DATE:
                Index(_index_name(name, column.name), column)
        return table


def _index_name(table: str, column: str) -> str:
    """Return the name of an index, with a digest in place of the end of a name that is too long for a server."""
    name = f"ix_{table}_{column}"
    if len(name.encode()) <= _LONGEST:
        return name
    return f"ix_{table[:10]}_{hashlib.sha256(table.encode()).hexdigest()[:8]}_{column}"


def tables_of(settings: Settings) -> Tables:
    """Return the definitions of the tables that the settings name."""
    chosen = settings.database_table_names or {}, settings.database_table_schemas or {}
    return _tables(*(tuple(sorted(each.items())) for each in chosen))


@lru_cache(maxsize=64)
def _tables(names: tuple[tuple[str, str], ...], schemas: tuple[tuple[str, str], ...]) -> Tables:
    """Make the definitions once, since that takes milliseconds."""
    return Tables(dict(names), dict(schemas))


def full_name(table: Table, dialect: Dialect) -> str:
    """Return the quoted name of ``table`` for the server, in any mode of a session."""
    preparer = dialect.preparer(dialect)  # the dialect's own preparer follows the mode of its first session
    return undoubled(preparer.format_table(table), dialect)


def quoted(name: str, dialect: Dialect) -> str:
    """Return ``name`` as it is written in a statement."""
    return undoubled(dialect.preparer(dialect).quote(name), dialect)


def undoubled(sql: str, dialect: Dialect) -> str:
    """Return ``sql``, made by SQLAlchemy, with single percent signs.

    For some drivers SQLAlchemy doubles them in names, and then again in the ``text()`` that contains the names.
    """
    return sql.replace("%%", "%") if "%%" in dialect.identifier_preparer.quote_identifier("%") else sql


def in_text(sql: str) -> str:
    """Return ``sql`` for SQLAlchemy's ``text()``, in which a colon in a name would mark a parameter."""
    return sql.replace(":", "\\:")


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The tables that were found in a database.

    Attributes:
        task, group, stream, runner: the quoted names of the tables.
        columns: those of ``COLUMNS`` that the results' table has; older versions lack some. Empty if there is no such
            table yet.
        written: those of them that are written with these settings.
        task_next_id: SQL expression for a new row's ``id``, or ``None`` if the database sets it.
        group_next_id: the same for groups.
        expressions: what to select for a column whose type returns another value than was written.
    """

    task: str
    group: str
    stream: str
    runner: str
    columns: tuple[str, ...]
    written: tuple[str, ...]
    task_next_id: str | None = None
    group_next_id: str | None = None
    expressions: dict[str, str] = {}

    @property
    def there(self) -> bool:
        """Whether the results' table exists."""
        return bool(self.columns)

    def select_list(self, date_done: str = "date_done") -> str:
        """Return all of ``COLUMNS`` for a SELECT, with NULL in place of those that are missing."""
        found = {name: self.reading(name) for name in self.columns} | {"date_done": date_done}
        return ", ".join(found.get(name, "NULL") for name in COLUMNS)

    def reading(self, name: str) -> str:
        """Return the expression that selects the column ``name``."""
        return self.expressions.get(name, name)
