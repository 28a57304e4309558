"""Settings as programs have them: numbers of the environment are text, flags are 0 and 1, zones are objects."""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from aioresult import SettingsError
from aioresult.settings import make_settings

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("result_expires", "3600", 3600.0),
        ("poll_interval", "0.25", 0.25),
        ("redis_port", "6380", 6380),
        ("redis_db", "3", 3),
        ("redis_socket_timeout", "30", 30.0),
        ("result_backend_max_retries", "3", 3.0),
        ("stream_buffer", "10", 10),
    ],
)
def test_a_number_may_be_text_as_the_environment_has_it(
    name: str, text: str, number: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIVEN", text)
    assert getattr(make_settings({name: os.environ["GIVEN"]}), name) == number


@pytest.mark.parametrize("name", ["result_extended", "task_track_started", "enable_utc", "database_trigger"])
def test_a_flag_may_be_a_number(name: str) -> None:
    assert [getattr(make_settings({name: value}), name) for value in (0, 1)] == [False, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(["result_extended", "database_trigger"], ["false", "0", "true", ""]),
        ("result_extended", 2),
        ("result_expires", "an hour"),
        ("result_expires", "-1"),
        ("poll_interval", "nan"),
        ("redis_port", "6380.5"),
        ("timezone", 2),
        ("timezone", "Europe/Nowhere"),
    ],
)
def test_what_could_be_meant_otherwise_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"setting {name}: "):
        make_settings({name: value})


@pytest.mark.parametrize(
    ("zone", "hours"),
    [("Europe/Berlin", 2), (BERLIN, 2), (timezone(timedelta(hours=5.5)), 5.5), (UTC, 0)],
)
def test_a_zone_is_a_name_or_an_object(zone: Any, hours: float) -> None:
    found = make_settings({"timezone": zone}).zone
    assert isinstance(found, tzinfo)
    assert found.utcoffset(datetime(2026, 7, 1, tzinfo=found)) == timedelta(hours=hours)


def test_without_a_zone_it_is_utc() -> None:
    assert [make_settings({"timezone": nothing}).zone for nothing in (None, "")] == [UTC, UTC]
    assert make_settings({"timezone": "", "enable_utc": False}).zone is None
