"""Programs that tests talk to, line by line; see ``tests.preloaded`` for what their processes are."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Self

from tests.blocking import PATIENCE
from tests.preloaded import preloaded


class Program:
    """A running program, with pipes as its standard input and output; it is killed at the end of the ``with`` block.

    Args:
        module: is run as ``python -m`` does; ``tests.statements`` runs its first argument.
        arguments: of the program.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        origin = preloaded()
        given, ours = os.pipe()
        self._input = os.fdopen(ours, "w", buffering=1, encoding="utf-8")
        ours, printed = os.pipe()
        self._output = os.fdopen(ours, encoding="utf-8")
        try:
            self.process = origin.start(module, arguments, os.environ, [given, printed, 2])
        finally:
            os.close(given)
            os.close(printed)

    def type(self, line: str = "") -> None:
        """Give it a line on its standard input."""
        self._input.write(f"{line}\n")

    async def line(self) -> str:
        """Return the next line that it prints, or "" where it has ended."""
        return (await asyncio.to_thread(self._output.readline)).rstrip("\n")

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        return await asyncio.to_thread(self.process.wait, PATIENCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.process.send_signal(signal.SIGKILL)  # unless it has ended
        await self.ended()
        self._input.close()
        self._output.close()
