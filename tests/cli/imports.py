"""What the command imports sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module

from aioresult.cli.app import run

for name in ("rich._emoji_codes", "tests.stores.imports"):
    import_module(name)
with contextlib.redirect_stderr(io.StringIO()):
    run(["get", "t", "--timeout", "soon"])  # typer imports the rest of itself when it reads options
