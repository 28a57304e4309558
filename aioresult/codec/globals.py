"""The globals that a pickle of plain data may name, and the function that is called for each; others are refused."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from aioresult.codec.machine import Name, PickleError, checked_key

# -- results of tasks and groups, which Celery pickles as objects that hold their backend's URL ------------------------


def _result_tree(kind: str, args: tuple[Any, ...]) -> list[Any]:
    """Return Celery's tuple form for the constructor arguments of a pickled ``AsyncResult`` or ``GroupResult``."""
    if kind == "GroupResult":
        group_id, members = args[0], args[1] if len(args) > 1 else []
        return [[group_id, None], list(members or [])]
    parent = args[4] if kind == "AsyncResult" and len(args) > 4 else None
    return [[args[0], parent], None]


def _app_attribute(kind: str, args: tuple[Any, ...]) -> list[Any]:
    if kind not in ("AsyncResult", "GroupResult", "EagerResult"):
        raise PickleError(f"it holds a Celery object of the unknown kind {kind!r:.50}")
    return _result_tree(kind, args)


CELERY: Final[dict[Name, Callable[..., Any]]] = {
    Name("celery.app.base", "_unpickle_appattr"): _app_attribute,
    Name("celery.backends.base", "unpickle_backend"): lambda *_: None,
    **{
        Name("celery.result", kind): lambda *args, kind=kind: _result_tree(kind, args)
        for kind in ("AsyncResult", "GroupResult", "EagerResult")
    },
}


# -- plain data -------------------------------------------------------------------------------------------------------


def _only(*types: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that lets a constructor be called only with arguments of these types."""

    def guard(make: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*args: Any) -> Any:
            if not all(type(arg) in types for arg in args):
                raise PickleError(f"it calls {make.__name__} with arguments that plain data does not have")
            return make(*args)

        return checked

    return guard


def _members(items: Any) -> list[Any] | tuple[Any, ...]:
    """Return the members of a container, if it is a list or tuple: a range may have more members than fit in memory."""
    if type(items) is not list and type(items) is not tuple:
        raise PickleError("it fills a container from something that is not a list")
    return items


def _bytes_of_text(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise PickleError("it calls a codec that plain data does not need")
    return text.encode("latin1")


def _attribute(target: Any, name: Any) -> Name:
    """Allow the one attribute that is pickled as a call of ``getattr``: the constructor of ``ZoneInfo``."""
    if target != Name("zoneinfo", "ZoneInfo") or name != "_unpickle":
        raise PickleError("it calls getattr, which plain data does not need")
    return Name("zoneinfo", "ZoneInfo._unpickle")


PLAIN: Final[dict[Name, Callable[..., Any]]] = {
    Name("datetime", "datetime"): _only(bytes, int, str, timezone, ZoneInfo, type(None))(datetime),
    Name("datetime", "date"): _only(bytes, int, str)(date),
    Name("datetime", "time"): _only(bytes, int, str, timezone, ZoneInfo, type(None))(time),
    Name("datetime", "timedelta"): _only(int)(timedelta),
    Name("datetime", "timezone"): _only(timedelta, str)(timezone),
    Name("zoneinfo", "ZoneInfo._unpickle"): lambda key, _cached=True: ZoneInfo(key),
    Name("builtins", "getattr"): _attribute,
    Name("pytz", "_UTC"): lambda: UTC,
    Name("decimal", "Decimal"): _only(str)(Decimal),
    Name("collections", "OrderedDict"): _only()(OrderedDict),
    Name("collections", "defaultdict"): lambda *_factory: defaultdict(None),
    Name("collections", "deque"): lambda items=(), maxlen=None: deque(_members(items), maxlen),
    Name("collections", "Counter"): _only(dict)(Counter),
    Name("builtins", "set"): lambda items=(): set(map(checked_key, _members(items))),
    Name("builtins", "frozenset"): lambda items=(): frozenset(map(checked_key, _members(items))),
    Name("builtins", "bytearray"): lambda data=b"", *encoding: bytearray(_octets(data, *encoding)),
    Name("builtins", "bytes"): _only()(bytes),
    Name("builtins", "complex"): _only(float)(complex),
    Name("builtins", "range"): _only(int)(range),
    Name("_codecs", "encode"): _only(str)(_bytes_of_text),
}


def _octets(data: Any, *encoding: Any) -> bytes:
    if isinstance(data, bytes) and not encoding:
        return data
    return _bytes_of_text(data, "latin1")
