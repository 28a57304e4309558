"""The members of each task: futures wait for its final record, listeners for every state."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Protocol

from aioresult.record import Record

Waiter = asyncio.Future[Record | None]
"""Resolves to the final record, or to ``None`` at its deadline."""


class Listener(Protocol):
    """Receives every state of the ids under which it is registered. A final record ends its registration."""

    def push(self, record: Record) -> None:
        """Take a record; called in the loop's thread, must neither block nor raise."""

    def fail(self, error: Exception) -> None:
        """Take the error that ended all waiting."""


Member = Waiter | Listener
Registered = Member | set[Member]
"""The members of one id: a member, or a set of several. Most tasks have one waiter, which then needs no set."""


def members_of(registered: Registered) -> Collection[Member]:
    """Return the members of one id."""
    return registered if isinstance(registered, set) else (registered,)


class Members(dict[str, Registered]):
    """The members of each id that is waited for. Nothing here awaits, so registering is one step."""

    def join(self, task_id: str, member: Member) -> None:
        """Register ``member`` under ``task_id``."""
        registered = self.get(task_id)
        if registered is None:
            self[task_id] = member
        elif isinstance(registered, set):
            registered.add(member)
        else:
            self[task_id] = {registered, member}

    def leave(self, ids: Iterable[str], member: Member) -> None:
        """Remove ``member``; ids under which it is not (or no longer) registered are ignored."""
        for task_id in ids:
            registered = self.get(task_id)
            if registered is member:
                del self[task_id]
            elif isinstance(registered, set):
                registered.discard(member)
                if not registered:
                    del self[task_id]

    def fail(self, ids: Iterable[str], error: Exception) -> None:
        """End the waiting for ``ids`` by ``error``."""
        for registered in [registered for task_id in ids if (registered := self.pop(task_id, None)) is not None]:
            for member in members_of(registered):
                if not isinstance(member, asyncio.Future):
                    member.fail(error)
                elif not member.done():
                    member.set_exception(error)
