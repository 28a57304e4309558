"""Who waits for which task: futures for one final record, listeners for every state."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Protocol

from aioresult.record import Record

Waiter = asyncio.Future[Record | None]
"""Resolves to the final record, or to ``None`` at its deadline."""


class Listener(Protocol):
    """Is told every state of the ids it has joined; final records end its membership."""

    def push(self, record: Record) -> None:
        """Take a record; called in the loop's thread, must neither block nor raise."""

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting."""


Member = Waiter | Listener
Entry = Member | set[Member]
"""One id's members. The only one is kept bare, and a set is made for the second: most tasks have one waiter."""


def members_of(entry: Entry) -> Collection[Member]:
    """Return the members of one id."""
    return entry if isinstance(entry, set) else (entry,)


class Members(dict[str, Entry]):
    """The members of each id that somebody waits for. Nothing here awaits: registering is one step."""

    def join(self, task_id: str, member: Member) -> None:
        """Register ``member`` under ``task_id``."""
        entry = self.get(task_id)
        if entry is None:
            self[task_id] = member
        elif isinstance(entry, set):
            entry.add(member)
        else:
            self[task_id] = {entry, member}

    def leave(self, ids: Iterable[str], member: Member) -> None:
        """Take ``member`` away; ids that it is not (or no longer) registered under are fine."""
        for task_id in ids:
            entry = self.get(task_id)
            if entry is member:
                del self[task_id]
            elif isinstance(entry, set):
                entry.discard(member)
                if not entry:
                    del self[task_id]

    def fail(self, ids: Iterable[str], error: Exception) -> None:
        """End the waiting for ``ids`` by ``error``."""
        for entry in [entry for task_id in ids if (entry := self.pop(task_id, None)) is not None]:
            for member in members_of(entry):
                if not isinstance(member, asyncio.Future):
                    member.fail(error)
                elif not member.done():
                    member.set_exception(error)
