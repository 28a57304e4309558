"""What goes wrong on a connection to Redis, and what that means to the caller of a store."""

from __future__ import annotations

from typing import Final

import redis.exceptions

from aioresult.errors import AioResultError, StoreUnavailable

_AWAY: Final = frozenset(
    {"ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED"}
    | {"NOAUTH", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNASKED", "UNBLOCKED", "WRONGPASS"}
)
"""Codes of errors that concern the server (or our standing with it) and not the one command."""
RIGHTS: Final = (
    "+get +mget +getrange +strlen +set +del +eval +evalsha +publish +subscribe +unsubscribe +multi +exec +ping +info"
)


class ServerError(Exception):
    """An error reply, which travels as a value among the other replies."""

    @property
    def code(self) -> str:
        """The first word of the reply, such as ``"NOSCRIPT"``."""
        return str(self).partition(" ")[0]


def unasked(reply: object) -> ServerError:
    """Return what a reply amounts to that belongs to no command."""
    return ServerError(f"UNASKED {reply!r:.100}")


class Lost(ConnectionError):
    """The end of a connection.

    Attributes:
        repeat: whether what was under way may be tried on a new connection.
    """

    def __init__(self, reason: str, *, repeat: bool = True) -> None:
        super().__init__(reason)
        self.repeat = repeat


def refused(error: ServerError, location: str, prefix: str) -> AioResultError:
    """Return what an error reply means; ``prefix`` is that of all keys, for the advice on ACL rights."""
    text = str(error)
    if error.code == "NOPERM" or "ACL failure" in text:
        return AioResultError(
            f"Redis at {location} denies it: {text}. The user needs '~{prefix}celery-task*' '&{prefix}celery-task*' "
            f"{RIGHTS}; without rights on channels, waiting needs push=False"
        )
    kind = StoreUnavailable if error.code in _AWAY else AioResultError
    return kind(f"Redis at {location} answered: {text}")


def unreachable(exc: Exception, location: str, advice: str = "") -> StoreUnavailable:
    """Return what a failure to connect, or of a connection, means; ``advice`` is added at its end."""
    cause = exc.__cause__ if isinstance(exc.__cause__, redis.exceptions.RedisError) else exc
    if isinstance(cause, redis.exceptions.AuthenticationError):
        text = f"authentication failed ({cause}); check user and password"
    elif isinstance(exc, TimeoutError | redis.exceptions.TimeoutError):
        text = f"timeout: {exc}" if str(exc) else "timeout while connecting"
    else:
        text = str(exc) or type(exc).__name__
    return StoreUnavailable(f"Redis at {location} is unavailable: {text}{advice}")
