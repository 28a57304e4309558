"""The last look of a command whose time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aioresult.default import ResultBackend
from aioresult.errors import StoreUnavailable
from aioresult.record import Record

_PATIENCE: Final = 5.0
"""Seconds for it, however long a store may take otherwise: whoever gives a timeout is in a hurry."""


async def last_look(backend: ResultBackend, ids: Sequence[str]) -> dict[str, Record]:
    """Return what is stored of ``ids`` now; the time may have been too short to look at all.

    Raises:
        StoreUnavailable: the store cannot be reached, or does not answer soon.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            return await backend.runtime.look_many(ids)
    except TimeoutError as exc:
        location = backend.runtime.store.location
        raise StoreUnavailable(f"the store at {location} has not replied within {_PATIENCE:g} s") from exc
