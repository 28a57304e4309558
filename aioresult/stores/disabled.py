"""``disabled://``: stores nothing, for applications whose results are switched off (Celery's
``result_backend="disabled"``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from aioresult.abc import Capabilities, Store
from aioresult.errors import ResultNotStored
from aioresult.record import Record
from aioresult.settings import Settings

_REASON: Final = "the backend is disabled://; configure a store to read results"


class DisabledStore(Store):
    """Drops what is written; reading a result raises an error with the reason."""

    loop_bound: ClassVar[bool] = False

    def __init__(self, url: str, settings: Settings, reason: str = _REASON) -> None:
        super().__init__(url, settings)
        self._reason = reason

    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        raise ResultNotStored(f"no result is stored for {ids[0]!r}: {self._reason}")

    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        return [False] * len(records)

    async def delete_many(self, ids: Sequence[str]) -> None:
        return None

    async def ping(self) -> None:
        return None

    async def capabilities(self) -> Capabilities:
        return Capabilities(push=False, mechanism="none", reason="results are switched off")
