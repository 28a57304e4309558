"""``date_done`` as each kind of database holds it: a column without a zone, whose meaning depends on who wrote it.

From 5.5 on, Celery hands an aware date in its application's zone to the driver. On SQLite and MySQL the zone is then
dropped, so that the column holds wall time of the application. PostgreSQL converts to the session's time zone, which
its statements do here too (see ``dialects/postgresql.py``), so that aware dates go both ways. Up to 5.4 the date is in
UTC, whatever the application's zone; only PostgreSQL makes the same of both.

So a date is as right as the zone in which it is read: that of the settings, or of the session. Nothing that is read is
judged by it, and what is deleted or replaced because of its age is given a day more where the zone is in doubt.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Protocol


class Dates(Protocol):
    """Converts between aware dates and the form in which statements take and return them."""

    @property
    def zone_is_certain(self) -> bool:
        """Whether all writers write in one zone, as far as can be known."""

    def to_column(self, date: datetime) -> object:
        """Return ``date`` as a statement takes it."""

    def from_column(self, value: object) -> datetime | None:
        """Return what a statement returned as an aware date in UTC, or ``None`` where it is no date."""


class AwareDates:
    """Aware dates both ways: the statements convert, to a zone that is the session's."""

    zone_is_certain = False

    def to_column(self, date: datetime) -> object:
        return _aware(date)

    def from_column(self, value: object) -> datetime | None:
        return _aware(value).astimezone(UTC) if isinstance(value, datetime) else None


class WallDates:
    """Wall time of ``zone``, or local time where that is ``None``."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone

    @property
    def zone_is_certain(self) -> bool:
        # UTC is what each generation of Celery writes by default. With another zone, Celery up to 5.4 writes UTC.
        return self._zone is not None and str(self._zone) == "UTC"

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
