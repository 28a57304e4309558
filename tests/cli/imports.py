"""What the command imports sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module

from aioresult.cli.app import run

for name in """
    aiosqlite aioresult.stores.memory aioresult.stores.redis aioresult.stores.sqlalchemy.feeds.sqlite
    aioresult.stores.sqlalchemy.store
""".split():
    import_module(name)
with contextlib.redirect_stderr(io.StringIO()):
    run(["get", "t", "--timeout", "soon"])  # typer imports the rest of itself when it reads options
