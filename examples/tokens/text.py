"""What both producers say, and where it is kept."""

from __future__ import annotations

import os
from pathlib import Path

WORDS = "Waiting is asking a question once, and listening until somebody answers it.".split(" ")
SECONDS_PER_WORD = 0.3
LEASE = 2.0
"""Seconds after which a producer that gives no sign of life is lost; 30 by default, this is for the impatient."""
LOOK = 0.5
"""Seconds between two looks of a reader at whether its producer is alive; 30 by default, too."""


def data() -> Path:
    """Return the folder of the example's files."""
    folder = Path(os.environ.get("DATA", "tokens_data")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def store_url() -> str:
    """Return where streams and results are kept: ``AIORESULT_URL``, or else a SQLite file."""
    return os.environ.get("AIORESULT_URL") or f"sqlite:///{data() / 'results.db'}"
