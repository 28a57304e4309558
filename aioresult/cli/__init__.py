"""The command ``aioresult``, also ``python -m aioresult``; needs the extra ``cli``."""

from __future__ import annotations

import sys
from typing import Final

_NEEDED: Final = ("typer", "rich")
_USAGE: Final = 2
_INTERRUPTED: Final = 130


def main() -> int:
    """Run the command with the process's arguments and return its exit code."""
    try:
        from aioresult.cli.app import run

        return run(sys.argv[1:])
    except ModuleNotFoundError as exc:
        name = (exc.name or "").partition(".")[0]
        if name not in _NEEDED:
            raise
        sys.stderr.write(f'aioresult: the command needs {name}: pip install "aioresult-backend[cli]"\n')
        return _USAGE
    except KeyboardInterrupt:  # before the command itself could handle it
        return _INTERRUPTED
