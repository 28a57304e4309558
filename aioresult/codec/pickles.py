"""Reading and writing pickles of plain data, the format of SQL results in Celery up to 5.6.

``loads_plain`` uses our own interpreter, which imports nothing, looks names up only in the tables of ``globals``, and
lets no pickled data reach a class. (An ``Unpickler`` with a restricted ``find_class`` would still let a pickle change
attributes of the classes that it may use, or request a memo of many gigabytes.)
"""

from __future__ import annotations

import io
import pickle
from collections import deque
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from aioresult.codec import exceptions
from aioresult.codec.exceptiongroups import GROUPS
from aioresult.codec.globals import CELERY, PLAIN
from aioresult.codec.machine import Foreign, Machine, Name, PickleError
from aioresult.codec.paths import first_problem
from aioresult.errors import RemoteTaskError
from aioresult.states import EXCEPTION_STATES

PROTOCOL: Final = 4
"""kombu's protocol, which every Python reads; Celery up to 5.6 wrote SQL results with the highest protocol."""


def looks_like_pickle(payload: bytes) -> bool:
    """Return whether a payload begins as a pickle of protocol 2 to 5 does (no other serializer's record does)."""
    return payload[:1] == b"\x80" and payload[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


_UUID: Final = Name("uuid", "UUID")


def _call(name: Name, args: tuple[Any, ...]) -> Any:
    make = PLAIN.get(name) or CELERY.get(name)
    if make is not None:
        return make(*args)
    if (name.module, name.name) in GROUPS and len(args) == 2 and isinstance(args[1], (list, tuple)):
        args = (args[0], list(map(_member, args[1])))
    made = exceptions.build(name.module, name.name, _without_foreign(args))
    return made if made is not None else Foreign(name, args)


def _member(item: Any) -> Any:
    """Return a member of an exception group; a member that may not be rebuilt is described instead."""
    if not isinstance(item, Foreign):
        return item
    return RemoteTaskError(item.name.name, item.name.module, _without_foreign(item.args))


def _update(target: Any, state: Any) -> Any:
    if isinstance(target, Foreign):
        if target.name == _UUID and isinstance(state, dict) and isinstance(state.get("int"), int):
            return UUID(int=state["int"])
        return target
    if isinstance(target, Exception) and isinstance(state, dict):
        wanted = {key: value for key, value in state.items() if isinstance(key, str)}
        vars(target).update({key: value for key, value in wanted.items() if key[:2] != "__" or key == "__notes__"})
        return target
    raise PickleError(f"it sets the state of an object of type {type(target).__name__}, which plain data does not do")


def loads_plain(payload: bytes, *, failure: bool = False) -> Any:
    """Return the value of a pickle that holds only plain data, exceptions that may be rebuilt, and Celery's results.

    Plain are the built-in types, datetime's, ``Decimal``, ``UUID`` and the containers of ``collections``. A pickled
    ``AsyncResult`` or ``GroupResult`` is returned in Celery's tuple form, without its backend (whose URL it contains).

    Args:
        payload: the pickle, of protocol 2 to 5.
        failure: the value is an exception; if it may not be rebuilt, it is returned in Celery's form, ``{"exc_type":
            ..., "exc_message": ..., "exc_module": ...}``. (This also holds for the result of a failed record.)

    Raises:
        PickleError: it is broken, or needs a global that is none of these; the message names it.
    """
    machine = Machine(payload, _call, _update)
    value = machine.run()
    if not machine.used_names:
        return value
    if failure and isinstance(value, Foreign):
        value = _failure_form(value)
    elif isinstance(value, dict) and isinstance(value.get("result"), Foreign) and _has_failed(value.get("status")):
        value = {**value, "result": _failure_form(value["result"])}
    wanted = _find_foreign(value)
    if wanted is not None:
        raise PickleError(
            f"it holds an object of {wanted}, which is not plain data; to have pickle rebuild it, which lets everyone "
            f"who can write to the store run code here, set result_serializer='pickle' and accept_content=['pickle']"
        )
    return value


def _has_failed(status: object) -> bool:
    return isinstance(status, str) and status in EXCEPTION_STATES


def _failure_form(foreign: Foreign) -> dict[str, Any]:
    return {
        "exc_type": foreign.name.name,
        "exc_message": _without_foreign(foreign.args),
        "exc_module": foreign.name.module,
    }


def _without_foreign(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments; those that hold more than plain data are replaced by a short text."""
    return tuple(arg if (wanted := _find_foreign(arg)) is None else f"<{wanted}>" for arg in args)


def _find_foreign(value: Any) -> Name | None:
    """Return the first name in a value that is not plain data; iterative, and safe with cycles."""
    rest, seen = [value], set()
    while rest:
        item = rest.pop()
        if isinstance(item, Foreign):
            return item.name
        if isinstance(item, Name):
            return item
        if id(item) in seen:
            continue
        if isinstance(item, (list, tuple, set, frozenset, deque)):
            seen.add(id(item))
            rest.extend(item)
        elif isinstance(item, Mapping):
            seen.add(id(item))
            rest.extend(item.keys())
            rest.extend(item.values())
    return None


# -- trusted pickles --------------------------------------------------------------------------------------------------


class _TrustingUnpickler(pickle.Unpickler):
    """Builds everything except Celery's results, which would open a backend with the URL that they contain."""

    def find_class(self, module: str, name: str) -> Any:
        special = CELERY.get(Name(module, name))
        if special is not None:
            return special
        if module.startswith("celery.backends.") and name.endswith("Backend"):
            return Name(module, name)
        return super().find_class(module, name)


def loads_trusted(payload: bytes, *, failure: bool = False) -> Any:
    """Unpickle without restriction: only for payloads whose every writer is trusted.

    An exception whose class is not known in this process is returned in Celery's form, as by ``loads_plain``.
    """
    try:
        return _TrustingUnpickler(io.BytesIO(payload)).load()  # only where the user accepts pickle
    except (ImportError, AttributeError) as exc:
        try:
            return loads_plain(payload, failure=failure)
        except PickleError:
            raise PickleError(f"it needs what cannot be imported in this process ({exc})") from exc


# -- writing ----------------------------------------------------------------------------------------------------------

_PLAIN_TYPES: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, date, timedelta, Decimal, UUID, set, frozenset}
)


def judge_plain(value: Any) -> str | None:
    """Return why a value is not plain data, or ``None``; the parts of a dict, list or tuple are not checked."""
    if type(value) in _PLAIN_TYPES or type(value) in (dict, list, tuple):
        return None
    if type(value) in (datetime, time):
        if value.tzinfo is None or type(value.tzinfo) in (timezone, ZoneInfo):
            return None
        return f"its time zone of type {type(value.tzinfo).__qualname__} is not plain data"
    return f"object of type {type(value).__qualname__} is not plain data"


def judge_plain_key(key: Any) -> str | None:
    """Return the same for the key of a dict."""
    return next(filter(None, map(judge_plain_key, key)), None) if type(key) is tuple else judge_plain(key)


def dumps_plain(value: Any) -> bytes:
    """Return the pickle of a value that consists of plain data, which every version of Celery reads.

    Raises:
        TypeError: it holds something else.
    """
    problem = first_problem(value, "", judge_plain, judge_plain_key)
    if problem is not None:
        raise TypeError(problem)
    return pickle.dumps(value, protocol=PROTOCOL)


def dumps_group(tree: Any) -> bytes:
    """Return a group as the pickled ``GroupResult`` that Celery up to 5.6 reads from SQL, without a backend.

    Args:
        tree: Celery's tuple form, ``[[id, parent], members]``.

    Raises:
        TypeError, ValueError: it is not of that form.
    """
    return b"\x80\x04" + _reduced(tree) + b"."


def _reduced(node: Any) -> bytes:
    head, members = node
    node_id, parent = (head, None) if isinstance(head, str) else head
    if members is None:
        held = b"N" if parent is None else _reduced(parent)
        kind, args = "AsyncResult", b"(" + _text(node_id) + b"NNN" + held + b"t"
    else:
        items = b"".join(map(_reduced, members))
        kind, args = "GroupResult", _text(node_id) + b"](" + items + b"e\x86"
    return b"ccelery.app.base\n_unpickle_appattr\n" + _text(kind) + args + b"\x86R"


def _text(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"an id is a string, not {type(text).__name__}")
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def survives(exc: BaseException) -> bool:
    """Return whether an exception can be pickled and unpickled; false for classes that only this package has."""
    if type(exc).__module__.partition(".")[0] == "aioresult":
        return False
    try:
        return type(pickle.loads(pickle.dumps(exc, protocol=PROTOCOL))) is type(exc)  # noqa: S301  (our own bytes)
    except Exception:  # noqa: BLE001  (its code may raise anything; then it is stored by its name and arguments)
        return False
