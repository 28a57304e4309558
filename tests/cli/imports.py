"""What the command imports sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

import contextlib
import io

import aiosqlite  # noqa: F401

import aioresult.stores.memory
import aioresult.stores.redis
import aioresult.stores.sqlalchemy.feeds.sqlite
import aioresult.stores.sqlalchemy.store  # noqa: F401
from aioresult.cli.app import run

with contextlib.redirect_stderr(io.StringIO()):
    run(["get", "t", "--timeout", "soon"])  # typer imports the rest of itself when it reads options
