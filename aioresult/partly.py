"""The error that a store of several servers raises to its callers in this package; users do not get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aioresult.errors import StoreUnavailable


class PartlyUnavailable(StoreUnavailable):
    """Raised by a plural method of a store of several servers, some of which cannot be reached.

    Callers that need only the other servers are served as usual.

    Args:
        cause: why some servers could not be reached.
        outcomes: the answers of the other servers, by id: for a write whether it was written, for a read the record or
            ``None``, for a deletion ``None``.
    """

    def __init__(self, cause: StoreUnavailable, outcomes: Mapping[str, Any]) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.outcomes = outcomes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the constructor's arguments."""
        return type(self), (self.cause, self.outcomes)
