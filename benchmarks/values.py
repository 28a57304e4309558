"""Ids and values that every process can compute, so that every single value can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

Value = dict[str, object]

DATE_DONE: Final = "2026-01-01T00:00:00.000000+00:00"
KEY: Final = "celery-task-meta-"


class WrongValue(Exception):
    """Raised when a contestant returned another value than was stored, because then its speed does not count."""


def task_id(run: str, number: int) -> str:
    """Return an id of 36 characters, as long as a UUID."""
    return f"{run:0>24.24}-{number:0>11}"


def task_ids(run: str, count: int, start: int = 0) -> list[str]:
    return [task_id(run, number) for number in range(start, start + count)]


def value_of(task: str) -> Value:
    """Return the value that is stored for ``task``."""
    return {"n": int(task[25:]), "text": f"the value of {task}"}


def check(task: str, value: object) -> None:
    """Compare what was returned for ``task``.

    Raises:
        WrongValue: it is not what was stored.
    """
    if value != value_of(task):
        raise WrongValue(f"task {task}: expected {value_of(task)!r}, got {value!r:.200}")


def check_all(tasks: Iterable[str], values: Iterable[object]) -> int:
    """Compare all values and return how many there were."""
    count = 0
    for task, value in zip(tasks, values, strict=True):
        check(task, value)
        count += 1
    return count


def item_of(task: str, number: int) -> Value:
    """Return the value of item ``number`` (from 1) of the stream of ``task``: about as long as a few words."""
    return {"n": number, "text": f"item {number} of {task}"}


def items_of(task: str, count: int) -> list[Value]:
    """Return the values of the first ``count`` items of a stream."""
    return [item_of(task, number) for number in range(1, count + 1)]


def check_items(task: str, values: Sequence[object], count: int) -> int:
    """Compare the items that a reader received from the stream of ``task``, and return how many there were.

    Raises:
        WrongValue: it is not the first ``count`` items, each once and in order.
    """
    for number, value in enumerate(values, 1):
        if value != item_of(task, number):
            raise WrongValue(f"task {task}: expected item {number}, {item_of(task, number)!r}, got {value!r:.200}")
    if len(values) != count:
        raise WrongValue(f"task {task}: expected {count} items, got {len(values)}")
    return count


def record_of(task: str) -> bytes:
    """Return the whole record in Celery's JSON, as a worker stores it."""
    return msgspec.json.encode(
        {
            "status": "SUCCESS",
            "result": value_of(task),
            "traceback": None,
            "children": [],
            "date_done": DATE_DONE,
            "task_id": task,
        }
    )
