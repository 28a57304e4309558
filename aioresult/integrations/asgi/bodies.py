"""The JSON that clients get for records, items and errors."""

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
    """Escape characters that ``httpx``, ``str.splitlines`` and others take as line breaks, but browsers do not."""
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
    """Return the type and the message of an exception; for a gap in a stream, also the first item that can be read."""
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
    """Return ``str`` of a value as text that can be sent, even if ``str`` raises or returns lone surrogates."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  (the value's own code may raise anything)
        text = safe_repr(value)
    return text.encode("utf-8", "replace").decode()


def error_body(error: BaseException) -> bytes:
    """Return the body of an answer about an error."""
    return _in_one_line(msgspec.json.encode({"error": error_form(error)}))


def _shown(record: Record) -> Any:
    """Return the result without the process and the host that STARTED names, which browsers must not see."""
    if record.status == STARTED and isinstance(record.result, dict):
        return {key: value for key, value in record.result.items() if key not in _INTERNAL} or None
    return record.result


def state_body(record: Record, *, tracebacks: bool, error: BaseException | None = None, **more: Any) -> bytes:
    """Return a record as JSON: the fields of ``more``, its status, and its result or its error.

    ``error`` is an error of this package, which replaces the result.
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
