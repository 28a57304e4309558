"""Running the blocks of one page, in the current process and folder."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final, Self

from tests.project.pages.expecting import begins_with, check, check_comments
from tests.project.pages.parsing import Block

_PATIENCE: Final = 60.0
_STATE: Final = '\n__code=$?\n{ pwd; env -0; } >"$__STATE"\nexit "$__code"'


class BlockFailed(Exception):
    """A block does not do what the page says."""


class Session:
    """Where the blocks of a page run: one namespace, one event loop, one folder, one environment of commands.

    Attributes:
        translate: puts the places of this run (URLs, ports) in the place of those that the page shows.
    """

    def __init__(self, page: str, translate: Callable[[str], str], variables: Mapping[str, str]) -> None:
        self.page = page
        self.translate = translate
        self._module = ModuleType("__main__")
        sys.modules["__main__"] = self._module
        sys.path.insert(0, "")
        self._loop = asyncio.Runner()
        self._variables = dict(variables)
        self._folder = Path.cwd()
        self._state = Path(variables["TMPDIR"], "state")
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self._running:
            _signal(process, signal.SIGTERM)
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            _signal(process, signal.SIGKILL)
            process.wait()
        self._loop.close()

    def run(self, blocks: Iterable[Block]) -> None:
        """Run the blocks in order; what one of them prints is compared before the next one."""
        printed = ""
        for block in blocks:
            try:
                match block.kind:
                    case "python":
                        printed = self._python(block)
                        check_comments(self.translate(block.text), printed)
                    case "output":
                        check(self.translate(block.text), printed)
                    case "console":
                        for command, output in commands(self.translate(block.text)):
                            self._command(command, output)
                    case "background":
                        self._background(*next(commands(self.translate(block.text))))
                    case "file":
                        file = self._folder / block.about
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_text(self.translate(block.text), encoding="utf-8")
            except Exception as exc:
                where = f"{self.page}:{block.line}: {block.kind}"
                raise BlockFailed(f"{where}\n{''.join(traceback.format_exception(exc))}") from exc

    def _python(self, block: Block) -> str:
        source = "\n" * (block.line - 1) + self.translate(block.text)  # so that tracebacks have the page's lines
        code = compile(source, self.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = eval(code, self._module.__dict__)
            if inspect.iscoroutine(value):
                self._loop.run(value)
        return printed.getvalue()

    def _command(self, command: str, expected: str) -> None:
        done = subprocess.run(
            ["bash", "-c", command + _STATE],
            cwd=self._folder,
            env={**self._variables, "__STATE": str(self._state)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{command} has ended with {done.returncode}:\n{done.stdout}")
        if expected:
            check(expected, done.stdout)
        folder, _, variables = self._state.read_text().partition("\n")
        self._folder = Path(folder)
        own = ("__STATE", "_", "SHLVL", "PWD", "OLDPWD")
        pairs = (pair.partition("=") for pair in variables.split("\0") if pair)
        self._variables = {name: value for name, _, value in pairs if name not in own}

    def _background(self, command: str, expected: str) -> None:
        log = self._state.with_name(f"log-{len(self._running)}")
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._running.append(process)
        give_up = time.monotonic() + _PATIENCE
        while not begins_with(expected, printed := log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > give_up:
                check(expected, printed)
                raise AssertionError(f"{command} has ended with {process.returncode}")
            time.sleep(0.02)


def _signal(process: subprocess.Popen[bytes], signum: int) -> None:
    """Send a signal to a process and to those that it has started, unless the last of them has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signum)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a block, each with the output that is shown below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        length = next(number for number, line in enumerate(lines, 1) if not line.rstrip("\n").endswith("\\"))
        yield "".join(lines[:length]), "".join(lines[length:])
