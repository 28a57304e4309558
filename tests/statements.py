"""Runs its first argument, as ``python -c`` does."""

from __future__ import annotations

import sys

exec(sys.argv.pop(1))
