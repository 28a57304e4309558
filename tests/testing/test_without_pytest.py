"""An application's tests may be run by something else than pytest; only the suite for stores needs it."""

from __future__ import annotations

import subprocess
import sys


def output_without_pytest(code: str) -> str:
    """Return what an interpreter prints that has no pytest."""
    command = [sys.executable, "-c", f"import sys; sys.modules['pytest'] = None\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_faulty_store_needs_no_pytest() -> None:
    assert output_without_pytest("from aioresult.testing import FaultyStore; print(FaultyStore().down)") == "False\n"


def test_the_suite_says_what_to_install() -> None:
    code = """
from aioresult.errors import MissingDriver
try:
    from aioresult.testing import StoreTests
except MissingDriver as error:
    print(error)
"""
    assert 'pip install "aioresult-backend[testing]"' in output_without_pytest(code)


def test_what_is_not_there_is_an_attribute_error() -> None:
    code = "import aioresult.testing\nprint(hasattr(aioresult.testing, 'nothing'))"
    assert output_without_pytest(code) == "False\n"
