"""The JSON that clients get: of records, of items and of errors."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from aioresult.codec.exceptions import identity, safe_repr
from aioresult.codec.plain import plain_form
from aioresult.errors import EncodeError, RemoteTaskError, StreamGap
from aioresult.record import Record
from aioresult.states import STARTED

_INTERNAL: Final = frozenset({"pid", "hostname"})

_LINE_BREAKS: Final = [(chr(code).encode(), b"\\u%04x" % code) for code in (0x85, 0x2028, 0x2029)]


def _in_one_line(data: bytes) -> bytes:
    """Escape what is no line break to a browser, but to many a client, such as ``httpx`` and ``str.splitlines``."""
    if not data.isascii():
        for character, escape in _LINE_BREAKS:
            data = data.replace(character, escape)
    return data


def json_of(value: Any) -> bytes:
    """Return ``value`` as JSON on one line.

    Raises:
        EncodeError: it has no form in JSON.
    """
    try:
        return _in_one_line(msgspec.json.encode(value, enc_hook=plain_form))
    except Exception as exc:  # encoding calls code of the values, which may raise anything
        raise EncodeError(f"a value of type {type(value).__qualname__} has no form in JSON: {exc!s:.200}") from exc


def error_form(error: BaseException) -> dict[str, Any]:
    """Return the type and the message of an exception; of a gap in a stream, also where it can be read again."""
    _, name, args = identity(error)
    if isinstance(error, RemoteTaskError):
        message = error.message if error.message is not None else ", ".join(map(_text, args))
    else:
        message = _text(error)
    form: dict[str, Any] = {"type": name, "message": message}
    if isinstance(error, StreamGap):
        form["first"] = error.first
    return form


def _text(value: object) -> str:
    """Return a text that can be sent, whatever ``str`` of a value does or gives."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  (code of the value's own, which may raise anything)
        text = safe_repr(value)
    return text.encode("utf-8", "replace").decode()


def error_body(error: BaseException) -> bytes:
    """Return the body of an answer that says what is wrong."""
    return _in_one_line(msgspec.json.encode({"error": error_form(error)}))


def _shown(record: Record) -> Any:
    """Return the result without the process and the host that STARTED names: these are not for browsers."""
    if record.status == STARTED and isinstance(record.result, dict):
        return {key: value for key, value in record.result.items() if key not in _INTERNAL} or None
    return record.result


def state_body(record: Record, *, tracebacks: bool, error: BaseException | None = None, **more: Any) -> bytes:
    """Return a record: its status, and its result or its error, behind the fields of ``more``.

    ``error`` is one of ours, in place of the result.
    """
    form: dict[str, Any] = {**more, "status": _text(record.status)}
    result = error or record.error or _shown(record)
    if isinstance(result, BaseException):
        form["error"] = error_form(result)
        if tracebacks and record.traceback:
            form["error"]["traceback"] = _text(record.traceback)
    else:
        try:
            form["result"] = msgspec.Raw(json_of(result))
        except EncodeError as exc:
            form["error"] = error_form(exc)
    return _in_one_line(msgspec.json.encode(form))
