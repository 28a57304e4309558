"""Leases of runners on Redis: a key for each, which the server deletes when the lease ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from aioresult.errors import AioResultError, Unsupported
from aioresult.stores.redis.errors import is_denied
from aioresult.stores.redis.wire import Reply, pack

LEASE_KEY: Final = "celery-task-runner-"


class Leases:
    """The leases of one store.

    Args:
        prefix: of all keys.
        run: sends packed commands, each with the key that it is about.
        checked: returns a reply, or raises what it means.
    """

    def __init__(
        self,
        prefix: str,
        run: Callable[[Sequence[tuple[str, bytes]]], Awaitable[list[Reply]]],
        checked: Callable[[Reply], Reply],
    ) -> None:
        self._prefix = prefix + LEASE_KEY
        self._run = run
        self._checked = checked

    async def renew(self, runner: str, seconds: float) -> None:
        """Set a lease.

        Raises:
            Unsupported: this user may not write such a key.
        """
        (reply,) = await self._ask([runner], "SET", "1", "PX", str(max(1, round(seconds * 1000))))
        try:
            self._checked(reply)
        except AioResultError as exc:
            if is_denied(reply):
                raise Unsupported(f"a runner can keep no lease: {exc}") from exc
            raise

    async def end(self, runner: str) -> None:
        """Delete a lease."""
        (reply,) = await self._ask([runner], "DEL")
        self._checked(reply)

    async def ended(self, runners: Sequence[str]) -> Collection[str]:
        """Return those that have none."""
        replies = await self._ask(runners, "GET")
        return [runner for runner, reply in zip(runners, replies, strict=True) if not self._checked(reply)]

    async def _ask(self, runners: Sequence[str], command: str, *rest: Any) -> list[Reply]:
        keys = [self._prefix + runner for runner in runners]
        return await self._run([(key, pack(command, key, *rest)) for key in keys])
