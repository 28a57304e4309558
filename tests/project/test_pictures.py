"""The pictures of the documentation are those that the code gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def drawn(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "docs/pictures.py", *options], cwd=root, capture_output=True, text=True, check=False
    )


def test_the_pictures_are_up_to_date() -> None:
    done = drawn(ROOT, "--check")
    assert done.returncode == 0, done.stderr


def test_a_picture_of_other_code_is_out_of_date(tmp_path: Path) -> None:
    for folder in ("aioresult", "docs", "tests/project"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "__init__.py").touch()
    assert drawn(tmp_path, "--check").returncode == 0
    module = tmp_path / "aioresult" / "many.py"
    module.write_text(f"{module.read_text()}\nfrom aioresult.backend import Backend\n")
    assert "imports.svg" in drawn(tmp_path, "--check").stderr
