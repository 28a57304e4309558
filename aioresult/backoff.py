"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that double up to a limit, with full jitter."""

    def __init__(self, base: float = 0.05, limit: float = 2.0) -> None:
        self._base = base
        self._limit = limit
        self._attempt = 0

    def reset(self) -> None:
        """Begin again with short pauses."""
        self._attempt = 0

    def next(self) -> float:
        """Return the next pause, in seconds."""
        ceiling = min(self._limit, self._base * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        return random.uniform(ceiling / 10, ceiling)
