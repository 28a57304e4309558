"""Errors on a connection to Redis, and the errors that the caller of a store gets for them."""

from __future__ import annotations

import re
from typing import Final, TypeGuard

import redis.exceptions

from aioresult.errors import AccessDenied, AioResultError, StoreUnavailable, Unsupported

_AWAY: Final = frozenset(
    {"ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED"}
    | {"NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNEXPECTED", "UNBLOCKED", "WRONGPASS"}
)
"""Codes of errors that concern the server (or our login) and not a single command."""
RIGHTS: Final = (
    "+get +mget +getrange +strlen +set +del +eval +evalsha +publish +subscribe +unsubscribe +multi +exec +ping +info"
)
"""The commands that a user needs on one server; without ``+ping`` and ``+info`` only details about it are missing."""
STREAM_RIGHTS: Final = "+lindex +llen +lpush +lrange +ltrim +persist +pexpire +rpush"
"""The commands that a user needs for streams in addition."""
CLUSTER_RIGHTS: Final = "+cluster|slots +asking +spublish +ssubscribe +sunsubscribe"
"""The commands that a user needs in a cluster in addition."""
_SUBSCRIBING: Final = re.compile(
    r"NOPERM .*(subscribe'|access (a|one of the) channel)|ERR unknown command .s?subscribe\W", re.IGNORECASE | re.DOTALL
)
"""Errors by which Redis and Valkey refuse subscriptions: a right is missing, or the command does not exist."""
_DENIED_IN_A_SCRIPT: Final = re.compile("ACL failure|The user executing the script can't")
"""Errors of a script whose user lacks a right; the second is that of Redis 7.0."""
_UNKNOWN: Final = re.compile(r"ERR unknown command .(?P<name>\w*).", re.IGNORECASE)
_ARGUMENTS: Final = ", with args beginning with"
"""Begins the part of that error which quotes the command's arguments, perhaps a task's value."""
_WITHOUT_PASSWORD: Final = re.compile("HELLO must be called with the client already auth|Authentication required")
"""Errors for a client that has sent no password where one is required."""
_OTHER_KIND: Final = {
    "MOVED ": "; this server is part of a cluster: begin the URL with redis+cluster://, or rediss+cluster:// for TLS",
    "cluster support disabled": "; this server is no cluster: begin the URL with redis://, or rediss:// for TLS",
}
"""Words of errors of a server that is of another kind than the URL says, and the advice."""
_UNAUTHENTICATED: Final = "the server asks for a password, and none is in the URL or the settings"


class ServerError(Exception):
    """An error reply, which is returned as a value among the other replies."""

    def __init__(self, text: str) -> None:
        super().__init__(text.partition(_ARGUMENTS)[0])

    @property
    def code(self) -> str:
        """The first word of the reply, such as ``"NOSCRIPT"``."""
        return str(self).partition(" ")[0]


class ConnectionLost(ConnectionError):
    """The end of a connection.

    Attributes:
        repeat: whether the requests in flight may be repeated on a new connection.
    """

    def __init__(self, reason: str, *, repeat: bool = True) -> None:
        super().__init__(reason)
        self.repeat = repeat


def refused(error: ServerError, location: str, prefix: str) -> AioResultError:
    """Return the error to raise for an error reply; ``prefix`` is that of all keys, for the advice on ACL rights."""
    text = str(error)
    if is_denied(error) or _DENIED_IN_A_SCRIPT.search(text):
        return AccessDenied(
            f"Redis at {location} denies it: {text}. The user needs '~{prefix}celery-task*' '&{prefix}celery-task*' "
            f"{RIGHTS}; for streams also {STREAM_RIGHTS}; in a cluster also {CLUSTER_RIGHTS}"
        )
    if unknown := _UNKNOWN.match(text):
        name, needed = unknown["name"].upper(), RIGHTS.replace("+", "").upper()
        return Unsupported(
            f"Redis at {location} has no command {name}, which this needs: it is disabled or renamed, or a proxy does "
            f"not pass it on. Needed are {needed}"
        )
    if error.code == "NOAUTH":
        return StoreUnavailable(f"Redis at {location} is unavailable: {_UNAUTHENTICATED}")
    kind = StoreUnavailable if error.code in _AWAY else AioResultError
    advice = next((advice for words, advice in _OTHER_KIND.items() if words in text), "")
    return kind(f"Redis at {location} answered: {text}{advice}")


def is_denied(reply: object) -> TypeGuard[ServerError]:
    """Return whether ``reply`` says that the user lacks a right."""
    return type(reply) is ServerError and reply.code == "NOPERM"


def is_missing(reply: object) -> TypeGuard[ServerError]:
    """Return whether ``reply`` says that the server does not have the command."""
    return type(reply) is ServerError and _UNKNOWN.match(str(reply)) is not None


def is_withheld(reply: object) -> TypeGuard[ServerError]:
    """Return whether ``reply`` says that the server does not have the command, or not for this user."""
    return is_denied(reply) or is_missing(reply)


def answers_ping(reply: object) -> bool:
    """Return whether ``reply`` is a reply to ``PING``, including the refusal of a user who may not send it."""
    return reply == b"PONG" or (is_withheld(reply) and "ping" in str(reply).lower())


def why_polled(reply: object, prefix: str) -> str:
    """Return why results must be polled, if ``reply`` refuses a subscription; else an empty string.

    New users of Redis 7 have no rights on channels. Some proxies and services do not support subscriptions at all.
    """
    text = str(reply)
    if type(reply) is not ServerError or not _SUBSCRIBING.search(text):
        return ""
    if is_denied(reply):
        return (
            f"the user may not subscribe to the tasks' channels ({text}); grant '&{prefix}celery-task*' "
            "+subscribe +unsubscribe, in a cluster also +ssubscribe +sunsubscribe"
        )
    hint = "; for a cluster before Redis 7 put ?sharded=false into the URL" if "SSUBSCRIBE" in text.upper() else ""
    return f"the server has no subscriptions ({text}){hint}"


def unreachable(exc: Exception, location: str, advice: str = "") -> StoreUnavailable:
    """Return the error to raise when connecting, or a connection, has failed; ``advice`` is added at its end."""
    cause = exc.__cause__ if isinstance(exc.__cause__, redis.exceptions.RedisError) else exc
    if isinstance(cause, redis.exceptions.AuthenticationError) and _WITHOUT_PASSWORD.search(str(cause)):
        text = _UNAUTHENTICATED
    elif isinstance(cause, redis.exceptions.AuthenticationError):
        text = f"authentication failed ({cause}); check user and password"
    elif isinstance(exc, TimeoutError | redis.exceptions.TimeoutError):
        text = f"timeout: {exc}" if str(exc) else "timeout while connecting"
    else:
        text = str(exc) or type(exc).__name__
    return StoreUnavailable(f"Redis at {location} is unavailable: {text}{advice}")
