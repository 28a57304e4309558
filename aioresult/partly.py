"""The error between a store of several servers and its callers here; users do not get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aioresult.errors import StoreUnavailable


class PartlyUnavailable(StoreUnavailable):
    """Raised by a plural method of a store of several servers, some of which cannot be reached.

    Callers that ask only for what the others hold are then served as usual.

    Args:
        cause: why some could not be reached.
        outcomes: what the others have answered, by id: whether the record was written, or the record that was read and
            ``None`` where there is none, or ``None`` where it was deleted.
    """

    def __init__(self, cause: StoreUnavailable, outcomes: Mapping[str, Any]) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.outcomes = outcomes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all that it was made of."""
        return type(self), (self.cause, self.outcomes)
