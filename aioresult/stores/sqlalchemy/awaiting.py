"""Waiting for a database: with a time limit, and without losing connections when cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aioresult.stores.sqlalchemy.failures import Silence

Outcome = TypeVar("Outcome")


async def answered(answer: Awaitable[Outcome], patience: float | None) -> Outcome:
    """Return ``answer``, or raise ``Silence`` if it takes longer than ``patience``."""
    limit = asyncio.timeout(patience)
    try:
        async with limit:
            return await answer
    except TimeoutError as exc:
        if limit.expired():
            raise Silence from exc
        raise


async def to_its_end(
    opening: Coroutine[Any, Any, Outcome], discard: Callable[[Outcome], Awaitable[object]] | None = None
) -> Outcome:
    """Await ``opening`` to its end even if cancelled meanwhile, and then ``discard`` its result.

    If opening a connection is interrupted at the wrong moment, SQLAlchemy loses it without closing it.
    """
    task = asyncio.create_task(opening, name="aioresult opens a database")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None and discard is not None:
            await discard(task.result())
        raise
