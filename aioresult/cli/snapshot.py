"""What is stored of tasks when a command gives up waiting for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aioresult.default import ResultBackend
from aioresult.errors import StoreUnavailable
from aioresult.record import Record

_TIMEOUT: Final = 5.0
"""Seconds that the store may take. The store's own limits may be longer, and the user's timeout is over already."""


async def snapshot(backend: ResultBackend, ids: Sequence[str]) -> dict[str, Record]:
    """Return what is stored under ``ids`` now, because after a very short timeout nothing may have been read.

    Raises:
        StoreUnavailable: the store cannot be reached, or does not answer in time.
    """
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await backend._runtime.look_many(ids)
    except TimeoutError as exc:
        location = backend._runtime.store.location
        raise StoreUnavailable(f"the store at {location} has not replied within {_TIMEOUT:g} s") from exc
