"""The interface to a kind of database. The statements decide whether to replace a row, not the code around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from aioresult.errors import AioResultError
from aioresult.record import ABSENT, RUNNER, UNFINISHED
from aioresult.settings import Settings
from aioresult.states import PENDING, READY_STATES, SUCCESS
from aioresult.stores.sqlalchemy.dates import Dates
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.rows import Row
from aioresult.stores.sqlalchemy.tables import Layout, Tables, in_text
from aioresult.stores.sqlalchemy.urls import Target

Part = TypeVar("Part")

READY_LIST = ", ".join(f"'{state}'" for state in sorted(READY_STATES))
PURGE_BATCH = 1000
"""How many rows one transaction of ``purge`` deletes, so that others need not wait long."""
LONGEST = 1e10
"""Seconds, about three centuries: a longer lifetime would exceed the range of dates."""


def parts_of(items: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    """Give ``items`` in parts of at most ``size`` items."""
    return (items[start : start + size] for start in range(0, len(items), size))


def condition(over: str, old: str, given: str, expired: str, same: str, mark: str) -> str:
    """Return SQL for whether a row may be replaced.

    Args:
        over: the argument of ``write``.
        old: the name of the stored row.
        given: the name of the row to store.
        expired: SQL for whether the old row has expired.
        same: SQL for whether both rows are the same: then the call was repeated.
        mark: the parameter with the value of ``over``, for the mark of a runner.
    """
    unfinished = f"{old}.status NOT IN ({READY_LIST})"
    if over.startswith(RUNNER):
        return f"({unfinished} AND {old}.traceback = {mark}) OR ({same})"
    if over == ABSENT:
        rule = f"{old}.status = '{PENDING}'"
    elif over == UNFINISHED:
        rule = unfinished
    else:
        rule = f"({old}.status <> '{SUCCESS}' AND ({unfinished} OR {given}.status IN ({READY_LIST})))"
    return f"{old}.status IS NULL OR {rule} OR {expired} OR ({same})"


class Dialect(ABC):
    """One kind of database, with the tables that were found.

    Attributes:
        layout: the tables that were found.
        facts: other facts that ``look`` found when the store was opened.
        deadline: seconds within which an answer is expected; ``None`` for no limit.
        patience: the same for work on few rows, which takes milliseconds. A server that is busy, or whose disk is, may
            take seconds. After ten, it is more likely that the network has dropped the connection, and callers with an
            interactive user would soon give up. The repeated call then has the full deadline.
        begin: the statement that begins a transaction with writes.
        lanes: how many batches may be in flight at once, see ``Store.lanes``.
        clock: SQL for the server's present time, in milliseconds.
        greets: whether a connection must answer before it is used, since a pooler may delay its statements.
        date_given: SQL that converts the parameter ``:date`` for the column.
    """

    deadline: ClassVar[float | None] = 60.0
    patience: ClassVar[float | None] = 10.0
    begin: ClassVar[str] = "BEGIN"
    lanes: ClassVar[int] = 1
    clock: ClassVar[str]
    greets: ClassVar[bool] = False
    date_given: ClassVar[str] = ":date"

    def __init__(self, layout: Layout, dates: Dates, facts: dict[str, str]) -> None:
        self.layout = layout
        self.dates = dates
        self.facts = facts

    @property
    def zone_is_certain(self) -> bool:
        """Whether all writers of the table store ``date_done`` in the same zone, as far as is known."""
        return self.dates.zone_is_certain

    def cutoff(self, lifetime: float) -> datetime:
        """Return the latest ``date_done`` that is certainly more than ``lifetime`` seconds ago.

        If others may have written dates in another zone, a day is added, because keeping an old result is better than
        deleting a new one.
        """
        slack = timedelta(days=0 if self.zone_is_certain else 1)
        return datetime.now(UTC) - timedelta(seconds=min(lifetime, LONGEST)) - slack

    @staticmethod
    @abstractmethod
    def dates_for(settings: Settings) -> Dates:
        """Return the converter for ``date_done``."""

    @staticmethod
    @abstractmethod
    def engine_options(target: Target, settings: Settings) -> dict[str, Any]:
        """Return default arguments for SQLAlchemy's engine; the user's arguments win."""

    @staticmethod
    def prepare_engine(engine: AsyncEngine, writes: Callable[[], bool]) -> None:
        """Prepare every new connection of our engines: by default, do nothing.

        ``writes`` returns whether a new connection is for a store that writes; one that only reads must change nothing.
        """
        del engine, writes

    @staticmethod
    def explained(error: AioResultError, target: Target) -> AioResultError:
        """Return ``error``, perhaps with an explanation for this kind of database: by default, unchanged."""
        return error

    @staticmethod
    def nameless(target: Target) -> dict[str, Any]:
        """Return the driver's arguments that avoid named prepared statements: by default none."""
        return {}

    @staticmethod
    def driver_errors(driver: str) -> tuple[type[Exception], ...]:
        """Return errors of ``driver`` that SQLAlchemy does not wrap."""
        return ()

    @staticmethod
    def hang_up(connection: Any) -> None:
        """Abort a driver's silent connection, if closing it would wait for an answer: by default, do nothing."""
        del connection

    @staticmethod
    async def demoted(link: Link, exc: Exception) -> bool:
        """Return whether ``exc`` means that the server accepts no writes from anybody: by default false."""
        return False

    @staticmethod
    async def greet(connection: AsyncConnection) -> bool:
        """Get a first answer over a new connection; return whether it comes from a pooler."""
        raise NotImplementedError  # implemented where ``greets`` is true

    @staticmethod
    async def lock_for_creating(link: Link) -> None:
        """Prevent other processes from creating tables until the transaction ends, which by default does so."""
        del link

    @staticmethod
    @abstractmethod
    async def look(link: Link, tables: Tables) -> dict[str, str]:
        """Return facts about the server and the tables, for this dialect and for operators.

        Raises:
            Unsupported: the server is too old.
        """

    @abstractmethod
    async def read(self, link: Link, ids: Sequence[str]) -> Sequence[Row]:
        """Return the rows of ``ids``, however old they are."""

    @abstractmethod
    async def write(self, link: Link, rows: Sequence[Row], cutoff: datetime | None, over: str = "") -> set[str]:
        """Store ``rows``, each in one step, and return the ids of those that are now stored as given.

        A stored row is replaced if ``states.replaces`` allows it, or if it became final before ``cutoff``. If ``over``
        is given, ``Conditional.goes_over`` decides instead of ``states.replaces``.
        """

    def renewal(self, runner: str, milliseconds: int) -> str:
        """Return the statement that sets when a lease ends; ``runner`` is SQL."""
        return (
            f"INSERT INTO {self.layout.runner} (runner, expires) VALUES ({runner}, {self.clock} + {milliseconds}) "
            f"ON CONFLICT (runner) DO UPDATE SET expires = excluded.expires"
        )

    @abstractmethod
    async def delete(self, link: Link, ids: Sequence[str]) -> None:
        """Delete the rows of ``ids``."""

    @abstractmethod
    async def purge(self, link: Link, table: str, cutoff: datetime) -> int | None:
        """Delete up to ``PURGE_BATCH`` rows of ``table`` that became final before ``cutoff``.

        Returns:
            How many, or ``None`` if another process is purging.
        """

    async def write_group(self, link: Link, group_id: str, payload: bytes, date: datetime) -> None:
        """Store a group, replacing one of the same id."""
        next_id = self.layout.group_next_id
        column, value = ("id, ", f"{in_text(next_id)}, ") if next_id else ("", "")
        statement = text(
            f"INSERT INTO {in_text(self.layout.group)} ({column}taskset_id, result, date_done) "
            f"VALUES ({value}:id, :payload, {self.date_given}) "
            f"ON CONFLICT (taskset_id) DO UPDATE SET result = excluded.result, date_done = excluded.date_done"
        )
        await link.run(statement, {"id": group_id, "payload": payload, "date": self.dates.to_column(date)})

    async def read_group(self, link: Link, group_id: str) -> Any:
        """Return a group's payload as the driver gives it, or ``None``."""
        statement = text(f"SELECT result FROM {in_text(self.layout.group)} WHERE taskset_id = :id")
        return await link.value(statement, {"id": group_id})

    async def delete_group(self, link: Link, group_id: str) -> None:
        """Delete a group."""
        await link.run(text(f"DELETE FROM {in_text(self.layout.group)} WHERE taskset_id = :id"), {"id": group_id})
