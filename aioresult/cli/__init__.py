"""The command ``aioresult``, also ``python -m aioresult``; needs the extra ``cli``."""

from __future__ import annotations

import sys
from typing import Final

_NEEDED: Final = ("typer", "rich")
_USAGE: Final = 2


def main() -> int:
    """Run the command with the process's arguments and return its exit code."""
    try:
        from aioresult.cli.app import run
    except ModuleNotFoundError as exc:
        if exc.name not in _NEEDED:
            raise
        sys.stderr.write(f'aioresult: the command needs {exc.name}: pip install "aioresult-backend[cli]"\n')
        return _USAGE
    return run(sys.argv[1:])
