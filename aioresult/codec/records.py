"""Records to Celery's ``meta`` dictionaries and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from aioresult.record import EXTENDED_FIELDS, Record
from aioresult.settings import Settings

_STAMPED: Final = "stamped_headers"
"""The key that lists the names of stamps, which are keys among the others."""
_STORED: Final = tuple(field.encode_name for field in msgspec.structs.fields(Record) if field.name != "stamps")
"""The keys of a record, except the stamps."""
_RESERVED: Final = frozenset({*_STORED, _STAMPED})
"""Stamps are keys beside these; a stamp with one of these names is neither written nor read."""


def layout(settings: Settings) -> Layout:
    """Return the layout of records with these settings."""
    zone = settings.zone
    in_utc_anyway = isinstance(zone, ZoneInfo) and zone.key == "UTC"
    return Layout(UTC if in_utc_anyway else zone, settings.result_extended)


class Layout(msgspec.Struct, frozen=True):
    """The layout of records with one backend's settings."""

    zone: tzinfo | None
    """The zone of the dates; ``None`` for local time."""
    extended: bool
    """Whether the fields of ``result_extended`` are written."""

    def date_text(self, moment: datetime | None) -> str | None:
        """Return a date as Celery writes it, in the zone of the settings; a date without a zone counts as UTC."""
        if moment is None:
            return None
        if moment.tzinfo is UTC is self.zone:
            return f"{msgspec.to_builtins(moment)[:-1]}+00:00"  # it ends with "Z"; isoformat() takes thrice as long
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment if moment.tzinfo is self.zone else moment.astimezone(self.zone)).isoformat()

    def meta(self, record: Record) -> dict[str, Any]:
        """Return the dictionary that Celery would serialize, its keys in Celery's order."""
        meta = {
            "status": record.status,
            "result": record.result,
            "traceback": record.traceback,
            "children": record.children,
            "date_done": self.date_text(record.date_done),
        }
        if record.group_id is not None:
            meta["group_id"] = record.group_id
        if record.parent_id is not None:
            meta["parent_id"] = record.parent_id
        if self.extended:
            meta.update({name: getattr(record, name) for name in EXTENDED_FIELDS})
            if record.stamps:
                meta[_STAMPED] = list(record.stamps)
                meta.update({name: value for name, value in record.stamps.items() if name not in _RESERVED})
        meta["task_id"] = record.id
        return meta


def values_of(record: Record) -> dict[str, Any]:
    """Return the fields of a record that hold the user's values, by their names."""
    return {name: getattr(record, name) for name in ("result", "children", "args", "kwargs", "stamps", *_STORED[:-1])}


def record_of(task_id: str, meta: Any) -> Record:
    """Return the record that a decoded payload describes; only keys that Celery writes are taken from it.

    Raises:
        TypeError, ValueError: it is not a record; the message says why.
    """
    if not isinstance(meta, Mapping):
        raise TypeError(f"it holds a {type(meta).__name__} instead of a record")
    if "status" not in meta:
        raise ValueError("it holds no status, so it is not a task's record")
    values = {key: meta[key] for key in _STORED if key in meta}
    values["task_id"] = task_id
    values["date_done"] = _moment(values.get("date_done"))
    if isinstance(values.get("retries"), float) and values["retries"].is_integer():
        values["retries"] = int(values["retries"])
    if _STAMPED in meta:
        values[_STAMPED] = _stamps(meta)
    try:
        return msgspec.convert(values, Record)
    except msgspec.ValidationError as exc:
        raise ValueError(f"its fields are not those of a record ({exc})") from exc


def _moment(stored: Any) -> Any:
    if isinstance(stored, str):
        try:
            stored = datetime.fromisoformat(stored)
        except ValueError as exc:
            raise ValueError("its date_done is not a date in ISO format") from exc
    return in_utc(stored) if isinstance(stored, datetime) else stored


def in_utc(moment: datetime) -> datetime:
    """Return a date as aware UTC; a date without a zone is UTC already (Celery up to 5.3 writes it so).

    Raises:
        ValueError: it is outside the years that a date can have in UTC.
    """
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("its date_done is outside the range of dates") from exc


def _stamps(meta: Mapping[Any, Any]) -> dict[str, Any] | None:
    headers = meta[_STAMPED]
    if not isinstance(headers, (list, tuple, set, frozenset)):
        return None
    return {name: meta[name] for name in headers if isinstance(name, str) and name in meta.keys() - _RESERVED} or None
