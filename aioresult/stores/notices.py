"""Warnings that concern a store, and not one call: they are given once per process."""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("aioresult")

_given: Final[set[tuple[str, str]]] = set()


def warn_once(location: str, text: str) -> None:
    """Log ``text`` about the store at ``location``, unless that has been done."""
    if (location, text) not in _given:
        _given.add((location, text))
        logger.warning("%s: %s", location, text)
