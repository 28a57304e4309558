"""Making failed records storable, whatever the exception is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aioresult.codec import exceptions, pickles
from aioresult.record import Record

Dumps = Callable[[Any], bytes]


def storable(record: Record, dumps: Dumps, *, as_object: bool) -> Record:
    """Return a record in one of EXCEPTION_STATES with its exception in Celery's form.

    Its result is an exception, that form already, or anything else that describes why the task failed. What ``dumps``
    refuses is replaced by its ``repr``. ``as_object`` keeps an exception that can be pickled as it is, as Celery does
    under the pickle serializer.
    """
    result = record.result
    if isinstance(result, BaseException):
        if not (as_object and pickles.survives(result)):
            result = exceptions.describe(result, lambda arg: _is_encodable(arg, dumps))
    elif result and not (isinstance(result, Mapping) and "exc_type" in result):
        result = {"exc_type": "Exception", "exc_message": (result,), "exc_module": "builtins"}
    return msgspec.structs.replace(record, result=result, traceback=_text(record.traceback, dumps))


def shortened(record: Record, dumps: Dumps, limit: int) -> Record:
    """Return a storable record, shortened towards ``limit`` bytes: a short description is better than none."""
    share = max(limit // 8, 1)
    result, traceback = record.result, record.traceback
    if isinstance(result, BaseException):
        result = exceptions.describe(result, lambda arg: _is_encodable(arg, dumps))
    if isinstance(result, Mapping):
        message = result.get("exc_message", ())
        args = message if isinstance(message, (list, tuple)) else (message,)
        result = {key: value for key, value in result.items() if key != "exc_members"}
        result["exc_message"] = tuple(_short(arg, share) for arg in args)
        if "exc_text" in result:
            result["exc_text"] = _short(result["exc_text"], share)
    if traceback is not None and len(traceback) > share:
        traceback = f"[...]{traceback[-share:]}"
    return msgspec.structs.replace(record, result=result, traceback=traceback)


def _short(arg: Any, limit: int) -> Any:
    text = arg if isinstance(arg, str) else exceptions.safe_repr(arg)
    return arg if len(text) <= limit else f"{text[:limit]}..."


def _text(traceback: Any, dumps: Dumps) -> str | None:
    if traceback is None:
        return None
    text = str(traceback)
    if text.isascii() or _is_encodable(text, dumps):
        return text
    return text.encode("utf-8", "backslashreplace").decode()  # file names may hold what no serializer can encode


def _is_encodable(value: Any, dumps: Dumps) -> bool:
    try:
        dumps(value)
    except Exception:  # noqa: BLE001  (its code may raise anything; then it is stored as its repr)
        return False
    return True
