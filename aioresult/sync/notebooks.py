"""Cells of a notebook, which run inside the event loop of their kernel and may block it."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import Any, Final

_CALLBACK: Final = asyncio.Handle._run.__code__
"""An event loop runs callbacks and the steps of tasks through this function, so it is above them on the stack."""


def in_a_cell() -> bool:
    """Return whether the present call comes from a cell that IPython executes.

    Background work that a cell has started does not count: a task or callback, such as a server's, must not block the
    loop.
    """
    ipython: Any = sys.modules.get("IPython.core.interactiveshell")
    if ipython is None:
        return False
    cell = ipython.InteractiveShell.run_code.__code__
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _CALLBACK:
        if frame.f_code is cell:
            return True
        frame = frame.f_back
    return False
