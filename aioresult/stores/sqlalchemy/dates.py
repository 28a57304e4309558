"""``date_done`` as each kind of database holds it: a column without a zone, whose meaning depends on who wrote it.

Celery hands an aware date in its application's zone to the driver. On SQLite and MySQL the zone is then dropped, so
that the column holds wall time of the application. PostgreSQL converts to the session's time zone, which its statements
do here too (see ``dialects/postgresql.py``), so that aware dates go both ways.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Protocol


class Dates(Protocol):
    """Converts between aware dates and the form in which statements take and return them."""

    def to_column(self, date: datetime) -> object:
        """Return ``date`` as a statement takes it."""

    def from_column(self, value: object) -> datetime | None:
        """Return what a statement returned as an aware date in UTC, or ``None`` where it is no date."""


class AwareDates:
    """Aware dates both ways: the statements convert."""

    def to_column(self, date: datetime) -> object:
        return _aware(date)

    def from_column(self, value: object) -> datetime | None:
        return _aware(value).astimezone(UTC) if isinstance(value, datetime) else None


class WallDates:
    """Wall time of ``zone``, or local time where that is ``None``."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone

    def to_column(self, date: datetime) -> object:
        return self._wall(date)

    def from_column(self, value: object) -> datetime | None:
        return self._utc(value) if isinstance(value, datetime) else None

    def _wall(self, date: datetime) -> datetime:
        return _aware(date).astimezone(self._zone).replace(tzinfo=None)

    def _utc(self, wall: datetime) -> datetime:
        if self._zone is None:
            return wall.astimezone(UTC)
        return wall.replace(tzinfo=self._zone).astimezone(UTC)


class TextDates(WallDates):
    """The same as text: SQLite has no dates, and this is what SQLAlchemy writes there."""

    def to_column(self, date: datetime) -> object:
        return self._wall(date).isoformat(" ", "microseconds")

    def from_column(self, value: object) -> datetime | None:
        if not isinstance(value, str):
            return None
        try:
            date = datetime.fromisoformat(value)
        except ValueError:
            return None
        return self._utc(date) if date.tzinfo is None else date.astimezone(UTC)


def _aware(date: datetime) -> datetime:
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
