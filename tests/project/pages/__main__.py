"""Run one page: ``python -m tests.project.pages docs/howto/streams.md [redis=redis://localhost:6379/0 ...]``.

Warnings of blocks are errors; commands have Python's defaults, as for users.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path

from tests import commands
from tests.project.pages.parsing import BadPage, blocks
from tests.project.pages.places import translation
from tests.project.pages.running import BlockFailed, Session

ROOT = Path(__file__).parents[3]


def main(page: str, *places: str) -> int:
    """Run the page in a folder of its own, and say which block fails, and how."""
    path = Path(page).resolve()
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as own:
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIORESULT")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "TMPDIR": own,
        }
        if commands.ADDRESS in variables:
            commands.install(Path(own), "aioresult", "celery", "uvicorn")
            variables["PATH"] = f"{own}:{variables['PATH']}"
        os.chdir(folder)
        try:
            name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
            with Session(
                name, translation(path.read_text(encoding="utf-8"), dict(_pairs(places))), variables
            ) as session:
                session.run(blocks(path))
        except (BlockFailed, BadPage) as exc:
            print(exc, file=sys.stderr)
            return 1
        finally:
            os.chdir(ROOT)
    return 0


def _pairs(places: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, url) for name, _, url in (place.partition("=") for place in places)]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
