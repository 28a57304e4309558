"""Warnings about a store, and not about one call: each is logged once per process."""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("aioresult")

_given: Final[set[tuple[str, str]]] = set()


def warn_once(location: str, text: str) -> None:
    """Log ``text`` about the store at ``location``, unless it was logged before."""
    if (location, text) not in _given:
        _given.add((location, text))
        logger.warning("%s: %s", location, text)
