"""Rows become records, and what is wrong with one is told only of one with which something is wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aioresult import DecodeError
from aioresult.codec import Codec
from aioresult.settings import make_settings
from aioresult.stores.sqlalchemy.dates import WallDates
from aioresult.stores.sqlalchemy.rows import Row, Rows
from aioresult.stores.sqlalchemy.tables import COLUMNS


class Id(str):
    """An id that counts how often it was put into a message."""

    __slots__ = ()
    shown = 0

    def __repr__(self) -> str:
        type(self).shown += 1
        return super().__repr__()


def row(task_id: str, **more: object) -> Row:
    """Return the row of a task that has succeeded; columns that are not given are NULL."""
    usual = {"task_id": task_id, "status": "SUCCESS", "result": b"42", "date_done": datetime(2026, 11, 30, tzinfo=UTC)}
    return tuple({**dict.fromkeys(COLUMNS), **usual, **more}.values())


@pytest.fixture
def rows() -> Rows:
    settings = make_settings({})
    return Rows(settings, Codec(settings), WallDates(UTC))


def test_no_message_is_made_for_the_columns_of_a_row_in_which_all_is_well(rows: Rows) -> None:
    record = rows.to_record(row(Id("a"), name="shop.pay", worker="celery@one", retries=0, queue="celery"))
    assert (record.result, record.name, record.worker, record.retries) == (42, "shop.pay", "celery@one", 0)
    assert Id.shown <= 1, "the codec names the one value that it decodes"


@pytest.mark.parametrize(
    ("column", "what", "expected"),
    [
        ("status", "the status of", "text"),
        ("traceback", "the traceback of", "text"),
        ("result", "the result of", "bytes or text"),
        ("children", "children of", "bytes or text"),
        ("name", "the name of", "text"),
        ("args", "args of", "bytes or text"),
        ("kwargs", "kwargs of", "bytes or text"),
        ("worker", "the worker of", "text"),
        ("retries", "the number of retries of", "a whole number"),
        ("queue", "the queue of", "text"),
        ("stamps", "stamps of", "bytes or text"),
    ],
)
def test_a_value_of_another_type_is_told_with_its_column_and_its_task(
    rows: Rows, column: str, what: str, expected: str
) -> None:
    record = rows.to_record(row("a", **{column: 0.5}))
    said = f"{what} task 'a' cannot be read: its column holds a value of type float, not {expected}"
    assert str(record.error) == said


def test_a_saved_group_of_another_type_is_told_with_its_id(rows: Rows) -> None:
    with pytest.raises(DecodeError, match="the saved group 'g' cannot be read: its column holds a value of type float"):
        rows.decode_group("g", 0.5)
