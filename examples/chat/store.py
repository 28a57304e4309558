"""What the web server and the worker share: the store."""

from __future__ import annotations

import os

from aioresult import Backend

QUESTIONS = "questions"
"""The stream from which the worker takes its work. With Celery, or any other queue, there is none."""
LEASE = 2.0
"""Seconds after which a worker that gives no sign of life is lost; 30 by default, this is for the impatient."""
LOOK = 0.5
"""Seconds between two looks at whether the worker is alive; 30 by default, too."""


def backend() -> Backend:
    """Return a backend on the store that ``AIORESULT_URL`` names: a SQLite file, or any other."""
    return Backend(os.environ["AIORESULT_URL"], fallback_interval=LOOK)
