"""What a kind of database has to say for itself. The statements decide, never the code around them."""

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
"""Rows that one transaction of ``purge`` deletes: others wait for it no longer than that takes."""
LONGEST = 1e10
"""Seconds, some three centuries: the longest lifetime that keeps within what dates can hold."""


def parts_of(items: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    """Give ``items`` in parts of ``size`` of them at most."""
    return (items[start : start + size] for start in range(0, len(items), size))


def condition(over: str, old: str, given: str, expired: str, same: str, mark: str) -> str:
    """Return SQL for whether a row may be replaced.

    Args:
        over: what ``write`` is given.
        old: the name of the row that is there.
        given: the name of the row to store.
        expired: SQL for whether the old row has expired.
        same: SQL for whether both say the same: then the call was repeated.
        mark: the parameter that has ``over``, for the mark of a runner.
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
    """One kind of database, with its tables as they were found.

    Attributes:
        layout: what the database has.
        facts: what else was found when the store was opened, by ``look``.
        deadline: seconds within which an answer is expected; ``None`` for no limit.
        patience: the same for work on few rows, which takes milliseconds. A server that is busy, or whose disk is, may
            take seconds; after ten, it is more likely that the network has forgotten the connection, and a caller
            that serves somebody at a browser is about to give up. What was merely slow has the full deadline then.
        begin: begins a transaction that is going to write.
        lanes: how many batches may be under way at once, see ``Store.lanes``.
        clock: SQL for the server's time now, in milliseconds.
        greets: whether a connection counts only once it has answered, since a pooler may keep it waiting.
        date_given: SQL for the parameter ``:date`` as the column takes it.
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
        """Whether all who write the table write ``date_done`` in one zone, as far as can be known."""
        return self.dates.zone_is_certain

    def cutoff(self, lifetime: float) -> datetime:
        """Return the date before which what became final is certainly older than ``lifetime`` seconds.

        With dates that others may have written in another zone, a day is allowed for the difference: rather than
        deleting a fresh result, an old one is kept.
        """
        slack = timedelta(days=0 if self.zone_is_certain else 1)
        return datetime.now(UTC) - timedelta(seconds=min(lifetime, LONGEST)) - slack

    @staticmethod
    @abstractmethod
    def dates_for(settings: Settings) -> Dates:
        """Return how ``date_done`` is held."""

    @staticmethod
    @abstractmethod
    def engine_options(target: Target, settings: Settings) -> dict[str, Any]:
        """Return arguments for SQLAlchemy's engine, beneath those that the user gives."""

    @staticmethod
    def prepare_engine(engine: AsyncEngine, writes: Callable[[], bool]) -> None:
        """Arrange what every new connection of an engine of ours needs: by default, nothing.

        ``writes`` tells whether a new connection is for a store that writes: what only reads changes nothing.
        """
        del engine, writes

    @staticmethod
    def explained(error: AioResultError, target: Target) -> AioResultError:
        """Return ``error``, with what this kind of database has to add: by default, nothing."""
        return error

    @staticmethod
    def nameless(target: Target) -> dict[str, Any]:
        """Return the driver's arguments for statements that are not prepared under a name: by default, none are."""
        return {}

    @staticmethod
    def driver_errors(driver: str) -> tuple[type[Exception], ...]:
        """Return errors of ``driver`` that SQLAlchemy lets through as they are."""
        return ()

    @staticmethod
    def hang_up(connection: Any) -> None:
        """End a driver's connection that is silent, where closing it would wait for an answer: by default, nothing."""
        del connection

    @staticmethod
    async def demoted(link: Link, exc: Exception) -> bool:
        """Return whether ``exc`` says that the server takes no writes, whoever asks: by default, none says so."""
        return False

    @staticmethod
    async def greet(connection: AsyncConnection) -> bool:
        """Get a first answer over a new connection; return whether it is one from a pooler."""
        raise NotImplementedError  # where ``greets`` says so

    @staticmethod
    async def lock_for_creating(link: Link) -> None:
        """Keep other processes of ours from creating tables, until the transaction ends: by default, its own doing."""
        del link

    @staticmethod
    @abstractmethod
    async def look(link: Link, tables: Tables) -> dict[str, str]:
        """Return facts about the server and the tables that this dialect or an operator wants to know.

        Raises:
            Unsupported: the server is too old.
        """

    @abstractmethod
    async def read(self, link: Link, ids: Sequence[str]) -> Sequence[Row]:
        """Return the rows of ``ids``, however old they are."""

    @abstractmethod
    async def write(self, link: Link, rows: Sequence[Row], cutoff: datetime | None, over: str = "") -> set[str]:
        """Store ``rows``, each in one step, and return the ids of those that are now stored as given.

        A row is left as it is where ``states.replaces`` says so, unless it became final before ``cutoff``. Where
        ``over`` is given, ``Conditional.goes_over`` decides in place of that rule.
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
            How many, or ``None`` where another process is at it.
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
