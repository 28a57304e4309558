"""The common part of the stores on one server and on a cluster: commands, each about a key."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, Final

from aioresult.abc import Store
from aioresult.errors import AioResultError, StoreUnavailable, Unsupported
from aioresult.record import ResultTree
from aioresult.settings import Settings
from aioresult.stores.redis.errors import ServerError, answers_ping, is_denied, refused
from aioresult.stores.redis.scripts import lifetime
from aioresult.stores.redis.wire import PING, Reply, pack

RESULT_KEY: Final = "celery-task-meta-"
STREAM_KEY: Final = "celery-task-stream-"
_GROUP_KEY: Final = "celery-taskset-meta-"
_LEASE_KEY: Final = "celery-task-runner-"


class KeyedStore(Store):
    """Sends commands and parses their replies. Groups and leases have one key each, so they are complete here."""

    keeps_leases = True

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._prefix = settings.keyprefix + RESULT_KEY
        self._group_prefix = settings.keyprefix + _GROUP_KEY
        self._lease_prefix = settings.keyprefix + _LEASE_KEY

    def _stream_key(self, task_id: str) -> str:
        return self.settings.keyprefix + STREAM_KEY + task_id

    @abstractmethod
    async def _run(self, commands: Sequence[tuple[str, bytes]], *, once: bool = False) -> list[Reply]:
        """Send packed commands, each with its key, and return their replies.

        With ``once``, they are not repeated automatically after a lost connection.
        """

    def _checked(self, reply: Reply) -> Reply:
        """Return ``reply``, or raise an error if it is an error reply or missing."""
        if type(reply) is ServerError:
            raise refused(reply, self.location, self.settings.keyprefix) from reply
        if isinstance(reply, StoreUnavailable):
            raise reply
        return reply

    def _list(self, reply: Reply) -> list[Any]:
        reply = self._checked(reply)
        if not isinstance(reply, list):
            raise AioResultError(f"Redis at {self.location} answered with {type(reply).__name__}, not a list")
        return reply

    async def _ask(self, key: str, *command: str | bytes) -> Reply:
        """Send one command about ``key`` and return its reply; an error reply is raised."""
        (reply,) = await self._run([(key, pack(*command))])
        return self._checked(reply)

    async def ping(self) -> None:
        """Make one round trip; a refusal of ``PING`` is an answer, too."""
        (reply,) = await self._run([(self._prefix, PING)])
        if not answers_ping(reply):
            self._checked(reply)

    # --- groups ---

    async def put_group(self, group_id: str, tree: ResultTree) -> None:
        """Save and announce a group in one transaction, as Celery does."""
        key, payload = self._group_prefix + group_id, self.codec.encode_group(tree)
        commands = [("MULTI",), self._set(key, payload), ("PUBLISH", key, payload), ("EXEC",)]
        replies = await self._run([(key, pack(*command)) for command in commands])
        for reply in (*replies[:3], *self._list(replies[3])):
            self._checked(reply)

    def _set(self, key: str, payload: bytes) -> tuple[str | bytes, ...]:
        """Return the command that stores a group."""
        option, number = lifetime(self.settings.expires_for(""))
        return ("SET", key, payload, option, number) if option else ("SET", key, payload)

    async def get_group(self, group_id: str) -> ResultTree | None:
        key = self._group_prefix + group_id
        payload = await self._ask(key, "GET", key)
        return self.codec.decode_group(group_id, payload) if isinstance(payload, bytes) and payload else None

    async def delete_group(self, group_id: str) -> None:
        key = self._group_prefix + group_id
        await self._ask(key, "DEL", key)

    # --- leases: the server deletes the key when the lease ends ---

    async def renew_lease(self, runner: str, seconds: float) -> None:
        key = self._lease_prefix + runner
        (reply,) = await self._run([(key, pack("SET", key, "1", "PX", str(max(1, round(seconds * 1000)))))])
        try:
            self._checked(reply)
        except AioResultError as exc:
            if is_denied(reply):
                raise Unsupported(f"a runner can keep no lease: {exc}") from exc
            raise

    async def end_lease(self, runner: str) -> None:
        key = self._lease_prefix + runner
        await self._ask(key, "DEL", key)

    async def ended_leases(self, runners: Sequence[str]) -> Collection[str]:
        keys = [self._lease_prefix + runner for runner in runners]
        replies = await self._run([(key, pack("GET", key)) for key in keys])
        return [runner for runner, reply in zip(runners, replies, strict=True) if not self._checked(reply)]
