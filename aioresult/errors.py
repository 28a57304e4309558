"""All errors of aioresult.

::

    AioResultError
    ├── BackendNotConfigured    no backend was given, configured or named in the environment
    ├── SettingsError           a URL or a setting is unknown, malformed or contradictory (also a ValueError)
    │   └── UnknownStore        there is no store for such a URL
    ├── InvalidTaskId           an id is empty, not a string or too long (also a ValueError and a TypeError)
    ├── MissingDriver           a package of an extra is not installed (also an ImportError)
    ├── Unsupported             not possible here; says what to do instead (also a NotImplementedError)
    ├── WouldBlockLoop          a blocking call inside a running event loop (also a RuntimeError)
    ├── StoreUnavailable        the store cannot be reached or refuses the connection (also a ConnectionError)
    ├── AccessDenied            the store refuses what its user has no right to do
    ├── ResultTimeout           the result did not come in time (also a TimeoutError)
    ├── ResultNotStored         the result is never going to be stored
    ├── EncodeError             a value cannot be stored (also a ValueError)
    │   └── ResultTooLarge      its encoded form exceeds ``max_result_bytes``
    ├── StreamEnded             the task is final: nothing can be appended to its stream any more
    ├── StreamFull              a stream, or what waits to be stored of it, is at its limit
    ├── StreamGap               items that a reader has asked for are not there any more
    ├── DecodeError             a stored record cannot be read (also a ValueError)
    ├── TaskRevokedError        the task was revoked, cancelled, terminated or expired
    ├── TaskLost                the process that ran the task has gone
    ├── RemoteTaskError         the task failed with an exception that is not rebuilt here
    └── RemoteTraceback         never raised: the ``__cause__`` of a task's exception, which prints the remote traceback

A task's own exception is raised with its own type where that type is known (see ``register_exception``). All of these
can be pickled; none carries a credential. Each class has an entry in the documentation. The attribute ``documentation``
holds its address, and so does a note, which tracebacks print below the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

DOCUMENTATION: Final = "https://github.com/aioresult/aioresult/blob/main/docs/howto/troubleshooting.md"
"""The page that says what each error means and what to do."""


class _Note:
    """The notes of an error, made when they are first read, which is seldom, and not when it is raised."""

    def __get__(self, error: AioResultError | None, owner: type[AioResultError]) -> list[str]:
        if error is None:
            raise AttributeError("__notes__")  # as with any other class of exceptions
        notes = error.__dict__["__notes__"] = [f"What this means: {error.documentation}"]
        return notes


class AioResultError(Exception):
    """Root of all errors of this package.

    Attributes:
        documentation: address of this class's entry in the documentation.
    """

    documentation: ClassVar[str] = f"{DOCUMENTATION}#aioresulterror"
    __notes__ = _Note()  # an attribute of each instance once it was read

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.startswith("aioresult.") and cls.__module__.endswith("errors"):
            cls.documentation = f"{DOCUMENTATION}#{cls.__name__.lower()}"


class BackendNotConfigured(AioResultError):
    """Raised when a result is used before any backend is known."""


class SettingsError(AioResultError, ValueError):
    """Raised when a URL or a setting is unknown, malformed or contradicts another."""


class UnknownStore(SettingsError):
    """Raised for a URL, or another name of a place, for which no store is known; what is kept there cannot be read."""


class InvalidTaskId(AioResultError, ValueError, TypeError):
    """Raised for an id that no store could hold; also a ``TypeError``, since a non-string is one of the cases."""


class MissingDriver(AioResultError, ImportError):
    """Raised when a store, an integration or the suite for stores needs a package that is missing; names the extra."""


def missing_driver(package: str, user: str, extra: str, instead: str = "") -> MissingDriver:
    """Return the error for a package that is not installed.

    Args:
        package: the package.
        user: what needs it.
        extra: the extra of this distribution that contains it.
        instead: what to do otherwise, if anything.
    """
    return MissingDriver(
        f"the package {package!r} is needed for {user} and is not installed: "
        f'pip install "aioresult-backend[{extra}]"{instead and f"; or {instead}"}',
        name=package,
    )


class Unsupported(AioResultError, NotImplementedError):
    """Raised when a store has no such feature; says what to do instead."""


class WouldBlockLoop(AioResultError, RuntimeError):
    """Raised by the blocking API when the calling thread runs an event loop."""


class StoreUnavailable(AioResultError, ConnectionError):
    """Raised when the store cannot be reached, drops the connection or refuses to authenticate us."""


class AccessDenied(AioResultError):
    """Raised when the store refuses what its user has no right to do; trying again does not help."""


class ResultTimeout(AioResultError, TimeoutError):
    """Raised when a result did not become final within the caller's ``timeout``."""


class ResultNotStored(AioResultError):
    """Raised instead of waiting for a result that is never going to be stored."""


class EncodeError(AioResultError, ValueError):
    """Raised when a value cannot be encoded; nothing has been stored."""


class ResultTooLarge(EncodeError):
    """Raised when an encoded record exceeds ``max_result_bytes``; nothing has been stored."""


class StreamEnded(AioResultError):
    """Raised for an item of a task that is final already; nothing of the call was stored."""


class StreamFull(AioResultError):
    """Raised where a stream holds ``stream_max_items``, or ``stream_buffer`` items wait to be stored."""


class StreamGap(AioResultError):
    """Raised by a reader whose next item is not there any more: trimmed, expired or deleted.

    Attributes:
        first: the number of the first item that can still be read; a reader may go on with ``after=first - 1``.
        last: the number of the newest item, 0 where nothing is stored.
    """

    def __init__(self, message: str, first: int = 1, last: int = 0) -> None:
        super().__init__(message, first, last)
        self.first = first
        self.last = last

    def __str__(self) -> str:
        return str(self.args[0])


class DecodeError(AioResultError, ValueError):
    """Raised for a stored record that cannot be read with the local settings."""


class TaskRevokedError(AioResultError):
    """Raised by ``get()`` on a task that was revoked, cancelled, terminated or expired."""


class TaskLost(AioResultError):
    """Stored as the result of a task whose ``TaskRunner`` has not renewed its lease: its process has gone."""


class RemoteTaskError(AioResultError):
    """The failure of a task whose exception type is not rebuilt in this process.

    Attributes:
        exc_type: qualified name of the original class, for example ``"Outer.Inner"``.
        exc_module: module of the original class, or ``None`` where it was not recorded.
        exc_args: the original arguments, as decoded by the serializer.
        traceback: the original traceback as text, or ``None``.
        message: the original's text, where its arguments do not contain it; otherwise ``None``.
    """

    def __init__(
        self,
        exc_type: str,
        exc_module: str | None = None,
        exc_args: Sequence[Any] = (),
        traceback: str | None = None,
        message: str | None = None,
    ) -> None:
        super().__init__(exc_type, exc_module, tuple(exc_args), traceback)
        self.exc_type = exc_type
        self.exc_module = exc_module
        self.exc_args = tuple(exc_args)
        self.traceback = traceback
        self.message = message

    def __str__(self) -> str:
        name = f"{self.exc_module}.{self.exc_type}" if self.exc_module else self.exc_type
        return f"{name}({', '.join(map(repr, self.exc_args))})" if self.message is None else f"{name}: {self.message}"


class RemoteTraceback(AioResultError):
    """The ``__cause__`` of an exception that a task raised in another process: prints the traceback that it had there.

    Attributes:
        text: the traceback as text, with the "direct cause" sections that it had.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
