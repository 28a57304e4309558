"""Translating PyMongo's errors (Motor raises the same) to ours, with advice what to do."""

from __future__ import annotations

import re
from typing import Final

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from aioresult.errors import AccessDenied, AioResultError, StoreUnavailable
from aioresult.stores.certificates import advice_on_certificate

DUPLICATE_KEY: Final = 11000
UNAUTHORIZED: Final = 13
_AUTHENTICATION_FAILED: Final = 18
_PAUSE: Final = re.compile(r"RetryAfterMs=(\d+)")
_USUAL_PAUSE: Final = 0.1
_NOT_LOGGED_IN: Final = "requires authentication"
"""How the server refuses, also as unauthorized, whatever a client asks that has not logged in."""
_QUOTED_REFUSAL: Final = "'codeName': 'AuthenticationFailed'"
"""How PyMongo quotes that error after it has given up the server because of it, and finds no other."""
_HUNG_UP: Final = ("connection closed", "connection is already closed")
_THROTTLED: Final = 16500
"""The code of Azure Cosmos DB for requests beyond the paid rate; the answer says how long to wait."""
TRANSIENT: Final = frozenset(
    {
        *(6, 7, 24, 43, 46, 50, 63, 64, 70, 89, 91, 100, 112, 133, 134, 150, 189, 234, 237, 262, 279, _THROTTLED),
        *(9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031),
    }
)
"""Codes of errors that concern the server's state, and not the request or the value."""


def is_refusal(exc: OperationFailure) -> bool:
    """Return whether the server refuses the request permanently."""
    if exc.code in TRANSIENT or exc.code == _AUTHENTICATION_FAILED:
        return False
    return not any(map(exc.has_error_label, ("RetryableWriteError", "RetryableError", "ResumableChangeStreamError")))


def throttled(exc: PyMongoError) -> float | None:
    """Return how many seconds the server asks us to wait, or ``None`` if it does not."""
    if not isinstance(exc, OperationFailure):
        return None
    single = (exc.details or {}).get("writeErrors", ()) if isinstance(exc, BulkWriteError) else ()
    texts = [str(error.get("errmsg")) for error in single if error.get("code") == _THROTTLED]
    if exc.code == _THROTTLED:
        texts.append(str(exc))
    pauses = [int(found[1]) / 1000 if (found := _PAUSE.search(text)) else _USUAL_PAUSE for text in texts]
    return max(pauses, default=None)


def unavailable(exc: PyMongoError, location: str) -> StoreUnavailable:
    """Return the ``StoreUnavailable`` to raise from ``exc``."""
    return StoreUnavailable(_describe(exc, location))


def translated(exc: PyMongoError, location: str) -> AioResultError:
    """Return the error to raise from ``exc``, the failure of a request."""
    if isinstance(exc, OperationFailure) and exc.code == UNAUTHORIZED and _NOT_LOGGED_IN not in str(exc):
        return AccessDenied(
            f"{location} does not permit that ({reason_of(exc)}); let the user have the role readWrite there"
        )
    return unavailable(exc, location)


def _describe(exc: PyMongoError, location: str) -> str:
    code = exc.code if isinstance(exc, OperationFailure) else None
    reason = reason_of(exc)
    if code == _AUTHENTICATION_FAILED or _QUOTED_REFUSAL in str(exc):
        return (
            f"{location} refuses the user name or password ({reason}); check them, and whether the user belongs to "
            f"another database than the one in the URL: then say so there, as in '?authSource=admin'"
        )
    if code == UNAUTHORIZED and _NOT_LOGGED_IN in reason:
        return f"{location} asks for a user and a password, and none is in the URL or the settings ({reason})"
    if isinstance(exc, OperationFailure):
        return f"{location} answered with an error: {reason} (code {code})"
    if isinstance(exc, ServerSelectionTimeoutError):
        return f"{location} cannot be reached: {reason}{_advice_on_tls(reason)}"
    if isinstance(exc, NotPrimaryError):
        return f"{location} has no primary at the moment: {reason}"
    if isinstance(exc, ConfigurationError):
        return f"{location} cannot be used: {reason}"
    return f"the connection to {location} was lost: {reason}"


def _advice_on_tls(reason: str) -> str:
    """Return advice for an error that occurs when only one side uses TLS, or a certificate is not trusted.

    In the first case the connection is closed without a reason.
    """
    if any(words in reason for words in _HUNG_UP):
        return "; if it wants TLS, or a certificate, add tls=true, or tlsCertificateKeyFile=..., to the URL"
    if "SSL handshake failed" in reason and "CERTIFICATE" not in reason:
        return "; if it speaks no TLS, say tls=false in the URL"
    return advice_on_certificate(reason, "tlsCAFile")


def reason_of(exc: PyMongoError) -> str:
    """Return the driver's text, without the topology, the timeouts or the command that it adds."""
    reason = str(exc)
    for addition in (", Timeout: ", ", full error: ", " (configured timeouts: ", " to execute command "):
        reason = reason.partition(addition)[0]
    return reason[:500]
