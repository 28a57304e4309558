"""Opening a database: its tables are examined before use, and missing ones are created."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncEngine

from aioresult.codec import Codec
from aioresult.errors import AccessDenied, SettingsError
from aioresult.settings import Settings
from aioresult.stores.notices import warn_once
from aioresult.stores.sqlalchemy import creating, schema
from aioresult.stores.sqlalchemy.awaiting import answered
from aioresult.stores.sqlalchemy.dialects import dialect_class
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.failures import NO_TRANSACTIONS
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.rows import Rows
from aioresult.stores.sqlalchemy.tables import Kind, tables_of
from aioresult.stores.sqlalchemy.urls import Target


class Opening(ABC):
    """The part of a database that finds its tables, and remembers what was found."""

    def __init__(self, target: Target, settings: Settings, codec: Codec, client: AsyncEngine | None) -> None:
        self.target = target
        self.settings = settings
        self.location = target.location
        self.tables = tables_of(settings)
        self._chosen = dialect_class(target.family)
        self.rows = Rows(settings, codec, self._chosen.dates_for(settings))
        self._client = client
        self._found: dict[Kind | None, Dialect] = {}
        """What was found, by the table to write to; ``None`` for reading."""
        self._file: tuple[int, int] | None = None
        self._lock = asyncio.Lock()
        self._writes = False
        """Whether the store was used for writing so far."""

    @abstractmethod
    def _link(self, *, counting: bool = True) -> AbstractAsyncContextManager[Link]:
        """Give a connection; statements that open the database are not counted, since waiting does not cause them."""

    @abstractmethod
    def distrust(self) -> None:
        """Note that a user of a connection has found it dead: the other connections are replaced before use."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections, unless they are the caller's."""

    @property
    def opened(self) -> Dialect | None:
        """The dialect with the tables that were found for reading, if the database has been opened."""
        return self._found.get(None)

    async def _reopen(self) -> None:
        self._found.clear()
        self._file = None
        await self.aclose()

    def _usable(self, writes: Kind | None) -> Dialect | None:
        """Return what was found, unless the file was replaced, or a missing table may exist now."""
        found = self._found.get(writes)
        if found is None or (writes is None and not found.layout.there) or self._file_is_another():
            return None
        return found

    async def _dialect_for(self, writes: Kind | None) -> Dialect:
        """Return the dialect with the tables that were found, after opening the database if necessary.

        Args:
            writes: the table to write to.

        Raises:
            SQLAlchemyError, OSError: it cannot be opened; ``Database.run`` translates the error.
        """
        if self._file_is_another():
            await self._reopen()
        found = self._usable(writes)
        if found is not None:
            return found
        async with self._lock:
            found = self._usable(writes)
            without = None if writes else self._found.get(None)
            if found is None and without is not None and not await self._is_there_now():
                return without
            if found is None:
                found = await self._open(writes)
                self._found[writes] = found
                if found.layout.there:
                    self._found[None] = found
        return found

    async def _is_there_now(self) -> bool:
        """Return whether the missing table of results exists by now; costs as much as a read."""
        async with self._link() as link:
            look = link.connection.run_sync(schema.lacks, self.tables.task)
            return not await answered(look, self._chosen.patience)

    async def _open(self, writes: Kind | None) -> Dialect:
        if writes is not None and not self._writes:
            self._writes = True
            if self._file is not None and self._client is None:
                self.distrust()  # connections opened for reading do not change the file's settings
        async with self._link(counting=False) as link:
            if self.settings.database_create_tables_at_setup:
                if writes is not None:
                    await creating.create_for(link, self.tables, writes, self._chosen)
                elif self.settings.database_trigger:  # the trigger needs the table
                    await creating.create_quietly(link, self.tables, "task", self._chosen)
            layout = await link.connection.run_sync(
                schema.examine,
                self.tables,
                extended=self.settings.result_extended,
                writes=writes,
                binary=self.rows.binary,
            )
            if writes is None and not layout.there and not self.settings.database_create_tables_at_setup:
                raise SettingsError(schema.missing_table(self.tables.task))
            facts = await self._chosen.look(link, self.tables)
            if not layout.there:
                facts["tables"] = f"{self.tables.task.fullname} is created when the first result is stored"
            if facts.get("file"):
                self._file = _identity(facts["file"])
            dialect = self._chosen(layout, self.rows.dates, facts)
            if self.settings.database_trigger and layout.there:
                await self._install_trigger(link, dialect)
        return dialect

    async def _install_trigger(self, link: Link, dialect: Dialect) -> None:
        """Install the trigger that the settings request; without the right to do so, foreign writers are polled."""
        from aioresult.stores.sqlalchemy import triggers

        try:
            if not link.together:
                raise SettingsError(NO_TRANSACTIONS)
            await triggers.install(link, dialect)
        except (AccessDenied, SettingsError) as exc:
            warn_once(self.location, f"database_trigger: {exc}; what other writers store is polled meanwhile")

    def _file_is_another(self) -> bool:
        """Return whether the file was deleted or replaced while our connections were open."""
        found = next(iter(self._found.values()), None)
        if self._file is None or found is None:
            return False
        return _identity(found.facts["file"]) != self._file


def _identity(path: str) -> tuple[int, int] | None:
    """Return what identifies the file at ``path``, so that a replacement is noticed."""
    try:
        found = os.stat(path)  # noqa: PTH116  (called before every statement; takes half the time of pathlib's)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
