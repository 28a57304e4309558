"""Waiting without an event loop."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds after which something that should happen at once counts as not happening."""


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds, asking again and again; fail when it does not within ``PATIENCE``."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
