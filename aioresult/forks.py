"""Starting anew in a forked child process."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Forkable(Protocol):
    """Holds what must not be shared with a parent process: connections, locks, tasks."""

    def _start_afresh(self) -> None:
        """Forget them, without using or closing them; called in the child."""


_FOLLOWED: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()
_KEPT: Final[list[object]] = []
_following = False


def follow(forkable: Forkable) -> None:
    """Have ``forkable`` start afresh in every child that is forked from now on, as long as ``forkable`` lives."""
    global _following  # noqa: PLW0603  (a registration with the interpreter, which is process-wide)
    _FOLLOWED.add(forkable)
    if not _following and hasattr(os, "register_at_fork"):
        _following = True
        os.register_at_fork(after_in_child=_start_all_afresh)


def keep(inherited: object) -> None:
    """Keep what a child has inherited alive: the garbage collector would close it."""
    _KEPT.append(inherited)


def _start_all_afresh() -> None:
    for forkable in _FOLLOWED:
        forkable._start_afresh()
