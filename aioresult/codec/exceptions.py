"""Exceptions to Celery's form and back.

The stored form is ``{"exc_type": qualified name, "exc_message": [arguments], "exc_module": module}``. Two more keys
hold what the arguments do not contain: ``exc_text``, the exception's text, and ``exc_members``, the forms of the
members of an exception group. Celery ignores these two. A stored name is looked up only in an allow-list. No module is
imported or searched, because a writer to the store must not choose what is called.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from aioresult import errors
from aioresult.codec.exceptiongroups import GROUPS, members_of
from aioresult.codec.messages import own_text, text_in, with_text
from aioresult.errors import AioResultError, RemoteTaskError, RemoteTraceback, TaskRevokedError
from aioresult.states import FAILURE, REVOKED

MAX_TRACEBACK: Final = 2**20
"""How many characters of a stored traceback are kept."""
_MAX_REPR: Final = 2**16
_MAX_DEPTH: Final = 20
"""The depth to which nested groups are followed."""

_Exc = TypeVar("_Exc", bound=type[Exception])
_Key = tuple[str | None, str]

_CELERY_REVOKED: Final = ("celery.exceptions", "TaskRevokedError")
_CELERY_WRAPPER: Final = ("celery.utils.serialization", "UnpickleableExceptionWrapper")


def _classes_of(module: object, root: type[Exception]) -> dict[_Key, type[Exception]]:
    found = [cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, root)]
    return {(cls.__module__, cls.__qualname__): cls for cls in found}


_BUILT_IN: Final[dict[_Key, type[Exception]]] = {
    **_classes_of(builtins, Exception),
    **_classes_of(errors, AioResultError),
    _CELERY_REVOKED: TaskRevokedError,
}
del _BUILT_IN["builtins", "StopIteration"]  # a coroutine cannot raise it: Python turns it into a RuntimeError
_registered: dict[_Key, type[Exception]] = {}  # changed by single assignments only, so it is thread-safe


def register_exception(cls: _Exc) -> _Exc:
    """Allow that failures stored under this class's name are rebuilt as this class; usable as a decorator.

    Its constructor is then called with the stored arguments. Every writer to the store can choose these.

    Raises:
        TypeError: it is not a subclass of ``Exception``. (``SystemExit`` and the like would end the reader.)
    """
    given: object = cls
    if not (isinstance(given, type) and issubclass(given, Exception)):
        raise TypeError(f"only subclasses of Exception can be registered, not {cls!r:.100}")
    _registered[cls.__module__, cls.__qualname__] = cls
    return cls


def build(module: str | None, name: str, args: tuple[Any, ...]) -> Exception | None:
    """Return the exception of this name and arguments, or ``None`` where it is not allowed or cannot be made."""
    key = (module, name)
    cls = _registered.get(key) or _BUILT_IN.get(key)
    return None if cls is None else _made(cls, args)


def _made(cls: type[Exception], args: tuple[Any, ...]) -> Exception | None:
    try:
        made: object = cls(*args)
    except Exception:  # noqa: BLE001  (a registered constructor may raise anything; then the exception is described)
        return None
    return made if isinstance(made, Exception) else None


def restore(status: str, stored: Any, traceback: object) -> Exception | None:
    """Return the exception of a record in one of EXCEPTION_STATES, with its remote traceback as the ``__cause__``.

    ``None`` only for a RETRY without an exception, as a bare ``retry()`` stores it.
    """
    exc: Exception | None
    text = clip(traceback) if isinstance(traceback, str) and traceback else None
    if isinstance(stored, BaseException):
        exc = _adopt(stored, text)
    elif stored:
        exc = _from_form(stored, text)
    elif status == FAILURE:
        exc = RemoteTaskError("Exception", None, ("no exception was recorded",), text)
    else:
        exc = TaskRevokedError("revoked") if status == REVOKED else None
    if exc is not None and text is not None:
        exc.__cause__ = RemoteTraceback(text)
    return exc


def _adopt(exc: BaseException, traceback: str | None) -> Exception:
    """Return an unpickled exception as it is, unless it is a stand-in of Celery's or would end more than the task."""
    key = (type(exc).__module__, type(exc).__qualname__)
    if isinstance(exc, Exception) and key not in (_CELERY_REVOKED, _CELERY_WRAPPER):
        return exc
    if isinstance(exc, BaseExceptionGroup):
        return ExceptionGroup(exc.message, [_adopt(member, None) for member in exc.exceptions])
    return _from_form({"exc_type": key[1], "exc_module": key[0], "exc_message": exc.args}, traceback)


def _from_form(stored: Any, traceback: str | None, depth: int = _MAX_DEPTH) -> Exception:
    if not (isinstance(stored, Mapping) and isinstance(stored.get("exc_type"), str)):
        return RemoteTaskError("Exception", None, (stored,), traceback)
    module, name, args = _named(stored)
    text = stored.get("exc_text")
    if not isinstance(text, str):
        text = traceback and text_in(traceback, module, name, args)
    made = _group(module, name, args, _members(stored, (module, name), args, traceback, depth))
    made = made or build(module, name, args)
    return RemoteTaskError(name, module, args, traceback, text or None) if made is None else with_text(made, text)


def _named(stored: Mapping[str, Any]) -> tuple[str | None, str, tuple[Any, ...]]:
    """Return the module, the qualified name and the arguments of a stored exception."""
    module, name, message = stored.get("exc_module"), stored["exc_type"], stored.get("exc_message", "")
    args = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    if (module, name) == _CELERY_WRAPPER and len(args) >= 3:
        # What Celery stores instead of an exception that pickle cannot copy: (module, class, args, repr).
        inner_module, inner_name, inner_args = args[:3]
        if isinstance(inner_name, str) and isinstance(inner_args, (list, tuple)):
            module, name, args = inner_module, inner_name, tuple(inner_args)
    return module if isinstance(module, str) else None, name, args


def _members(
    stored: Mapping[str, Any], key: _Key, args: tuple[Any, ...], traceback: str | None, depth: int
) -> list[Exception]:
    """Return the members of a stored group, each rebuilt as if it were stored alone; none if it is not a group."""
    forms = stored.get("exc_members")
    if not forms and key in GROUPS and len(args) == 2 and isinstance(args[1], str):
        forms = members_of(args[1], traceback)
    if not isinstance(forms, (list, tuple)) or not depth:
        return []
    return [_from_form(form, None, depth - 1) for form in forms]


def _group(module: str | None, name: str, args: tuple[Any, ...], members: list[Exception]) -> Exception | None:
    key = (module, name)
    cls = ExceptionGroup if key in GROUPS else _registered.get(key)
    if not members or cls is None or not issubclass(cls, ExceptionGroup):
        return None
    return _made(cls, (args[0] if args and isinstance(args[0], str) else "", members))


def clip(traceback: str) -> str:
    """Return a traceback of limited length, because a stored one may have any size."""
    if len(traceback) <= MAX_TRACEBACK:
        return traceback
    half, cut = MAX_TRACEBACK // 2, len(traceback) - MAX_TRACEBACK
    return f"{traceback[:half]}\n[... {cut} characters left out ...]\n{traceback[-half:]}"


def describe(exc: BaseException, encodable: Callable[[Any], bool]) -> dict[str, Any]:
    """Return Celery's form of an exception; never fails: arguments that are not ``encodable`` become their ``repr``."""
    form = _form_of(exc, encodable, _MAX_DEPTH)
    message, members = form["exc_message"], form.get("exc_members")
    if members and isinstance(message[-1], str) and members == members_of(message[-1], None):
        del form["exc_members"]  # the arguments contain them in full, so store what Celery stores
    return form


def _form_of(exc: BaseException, encodable: Callable[[Any], bool], depth: int) -> dict[str, Any]:
    module, name, args = identity(exc)
    form: dict[str, Any] = {
        "exc_type": name,
        "exc_message": tuple(arg if encodable(arg) else safe_repr(arg) for arg in args),
        "exc_module": module,
    }
    text = own_text(exc, args)
    if text is not None:
        form["exc_text"] = text if encodable(text) else text.encode("utf-8", "backslashreplace").decode()
    if isinstance(exc, BaseExceptionGroup) and args and depth:
        form["exc_members"] = [_form_of(member, encodable, depth - 1) for member in exc.exceptions]
    return form


def identity(exc: BaseException) -> tuple[str | None, str, tuple[Any, ...]]:
    """Return the module, qualified name and arguments under which an exception is stored."""
    if isinstance(exc, RemoteTaskError):
        return exc.exc_module, exc.exc_type, exc.exc_args
    cls = type(exc)
    args: tuple[Any, ...] = BaseException.args.__get__(exc)  # type: ignore[attr-defined]  # a class may shadow .args
    if cls is TaskRevokedError:
        return (*_CELERY_REVOKED, args)
    return cls.__module__, cls.__qualname__, args


def safe_repr(value: Any) -> str:
    """Return ``repr(value)``, shortened if it is very long; a description where it raises."""
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001  (the code of an argument must not prevent storing the failure)
        return f"<{type(value).__qualname__} object, whose repr() raises {type(exc).__name__}>"
    return text if len(text) <= _MAX_REPR else f"{text[:_MAX_REPR]}..."
