"""Running the command ``aioresult`` as users do: in a process of its own."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests import commands
from tests.blocking import PATIENCE
from tests.preloaded import Preloaded

COMMAND = [sys.executable, "-W", "error", "-m", "aioresult"]


class Finished(NamedTuple):
    """What a command ended with and what it printed."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        """The lines of the output, each of which has to be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(url: str | None = None) -> dict[str, str]:
    """Return the environment for a command: a narrow terminal's width, and ``url`` as the store."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("AIORESULT_URL", "COLUMNS", "FORCE_COLOR")
    }
    found = {**kept, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "80", "LINES": "24"}
    return found if url is None else {**found, "AIORESULT_URL": url}


def aioresult(*arguments: str, url: str | None = None, stdin: str | None = None) -> Finished:
    """Run the command and return how it ended; a byte that is no UTF-8 is written as its surrogate escape.

    Its process is forked from one that has the imports; ``COMMAND`` begins with a new interpreter.
    """
    return Finished(*_preloaded().run("aioresult", arguments, environment(url), 2 * PATIENCE, stdin or ""))


@functools.cache
def _preloaded() -> Preloaded:
    preloaded = Preloaded("tests.cli.imports", "-W", "error")
    commands.install(preloaded.folder, "aioresult")
    return preloaded


def start(*arguments: str, url: str | None = None) -> subprocess.Popen[str]:
    """Start the command, to be waited for later."""
    preloaded = _preloaded()
    return subprocess.Popen(
        [preloaded.folder / "aioresult", *arguments],
        env={**environment(url), commands.ADDRESS: preloaded.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> Finished:
    """Wait for a started command and return how it ended."""
    out, err = process.communicate(timeout=2 * PATIENCE)
    return Finished(process.returncode, out, err)
