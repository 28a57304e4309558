"""``date_done`` in each kind of database: a column without a zone, whose meaning depends on the writer.

Since 5.5, Celery passes an aware date in its application's zone to the driver. On SQLite and MySQL the zone is dropped,
so that the column holds the application's wall time. PostgreSQL converts to the session's time zone, and our statements
do so too (see ``dialects/postgresql.py``), so that aware dates are passed in both directions. Up to 5.4 the date is in
UTC, whatever the application's zone; only on PostgreSQL both give the same.

Therefore a date is right only if it is read in the writer's zone: that of the settings, or of the session. Reading a
result does not depend on its date. Before a row is deleted or replaced because of its age, a day is added where the
zone is uncertain.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo


class Dates:
    """Converts between aware dates and the form in statements and rows: here, the statements convert to a zone.

    Attributes:
        zone_is_certain: whether all writers use the same zone, as far as is known.
    """

    zone_is_certain = False

    def to_column(self, date: datetime) -> object:
        """Return ``date`` in the form for a statement."""
        return _aware(date)

    def from_column(self, value: object) -> datetime | None:
        """Return a column's value as an aware date in UTC, or ``None`` if it is not a date."""
        return _aware(value).astimezone(UTC) if isinstance(value, datetime) else None


class WallDates(Dates):
    """Wall time of ``zone``, or local time if that is ``None``."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        # By default, all versions of Celery write UTC. With another zone, Celery up to 5.4 still writes UTC.
        self.zone_is_certain = zone is not None and str(zone) == "UTC"

    def to_column(self, date: datetime) -> object:
        return self._wall(date)

    def from_column(self, value: object) -> datetime | None:
        return self._utc(value) if isinstance(value, datetime) else None

    def _wall(self, date: datetime) -> datetime:
        return _aware(date).astimezone(self._zone).replace(tzinfo=None)

    def _utc(self, date: datetime) -> datetime:
        if self._zone is None:
            return date.astimezone(UTC)
        return date.replace(tzinfo=self._zone).astimezone(UTC)


class TextDates(WallDates):
    """The same as text: SQLite has no dates, and SQLAlchemy writes this text there."""

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
