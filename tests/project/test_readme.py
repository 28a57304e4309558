"""The README points to what is there, and shows the commands that there are. (Its blocks run in ``test_pages``.)"""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_every_file_that_is_pointed_to_exists() -> None:
    for target in re.findall(r"\]\(([^):]+)\)", TEXT):
        assert (README.parent / target).exists(), target


def test_the_two_commands_are_those_of_the_makefile() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"$ make {target} " in TEXT
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
