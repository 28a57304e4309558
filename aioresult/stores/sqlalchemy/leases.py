"""Leases of runners in a table of their own: when each ends, in milliseconds of the server's clock."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import ClassVar, Final

from sqlalchemy import TextClause, text

from aioresult.abc import Store
from aioresult.errors import AccessDenied, SettingsError, Unsupported
from aioresult.stores.sqlalchemy.database import Database
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.failures import MissingTable
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stores.sqlalchemy.tables import in_text

_FORM: Final = re.compile(r"[0-9A-Za-z-]{1,100}")
"""The form of ids of runners: such ids are safe in any statement."""


class LeaseStore(Store):
    """Keeps the lease of each runner as a row."""

    keeps_leases: ClassVar[bool] = True
    database: Database

    async def renew_lease(self, runner: str, seconds: float) -> None:
        key, milliseconds = _key(runner), max(1, round(seconds * 1000))
        try:
            await self.database.run(
                lambda link, dialect: link.run(_statement(dialect.renewal(key, milliseconds))),
                small=True,
                writes="runner",
            )
        except (AccessDenied, SettingsError) as exc:
            raise Unsupported(f"a runner can keep no lease: {exc}") from exc

    async def end_lease(self, runner: str) -> None:
        await self._delete_leases(f"runner = {_key(runner)}")

    async def ended_leases(self, runners: Sequence[str]) -> Collection[str]:
        keys = ", ".join(_key(runner) for runner in runners)

        async def read(link: Link, dialect: Dialect) -> set[str]:
            table = dialect.layout.runner
            alive = f"runner IN ({keys}) AND expires > {dialect.clock}"
            found = await link.rows(_statement(f"SELECT runner FROM {table} WHERE {alive}"))
            return {runner for (runner,) in found}

        alive: set[str] = set()
        if runners:
            with suppress(MissingTable):  # no lease was ever stored
                alive = await self.database.run(read, small=True)
        return [runner for runner in runners if runner not in alive]

    async def _delete_leases(self, condition: str | None) -> None:
        """Delete the leases that meet ``condition``; for ``None`` those that have expired."""

        async def delete(link: Link, dialect: Dialect) -> None:
            where = condition or f"expires <= {dialect.clock}"
            await link.run(_statement(f"DELETE FROM {dialect.layout.runner} WHERE {where}"))

        try:
            await self.database.run(delete, small=True)
        except (AccessDenied, SettingsError) as exc:  # an account that purges results may lack rights on this table
            if condition is not None and not isinstance(exc, MissingTable):
                raise Unsupported(f"a runner cannot delete its lease: {exc}") from exc


def _key(runner: str) -> str:
    """Return the id as SQL.

    Raises:
        ValueError: it is not the id of a runner.
    """
    if not _FORM.fullmatch(runner):
        raise ValueError(f"the id of a runner consists of letters, digits and hyphens, not {runner!r:.100}")
    return f"'{runner}'"


def _statement(sql: str) -> TextClause:
    """Return a statement that works with any driver and any name of the table."""
    return text(in_text(sql))
