"""The command's output: one JSON object per line for machines, short lines for people."""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import typer

from aioresult.codec.exceptions import identity, safe_repr
from aioresult.errors import RemoteTaskError, TaskRevokedError
from aioresult.record import EXTENDED_FIELDS, Record

_OPTIONAL = ("children", "group_id", "parent_id", *EXTENDED_FIELDS, "stamps")


def escape_what_cannot_be_printed() -> None:
    """Let standard output escape characters that its encoding lacks, in the form that JSON has, too."""
    codecs.register_error("aioresult", _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="aioresult")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def print_line(line: str) -> None:
    """Print one line to standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def print_error(message: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(f"aioresult: {' '.join(message.split())}\n")
    sys.stderr.flush()


def print_failure(record: Record, *, with_traceback: bool) -> None:
    """Print to standard error how a task has failed, and its traceback if that is wanted."""
    print_error(f"task {record.id!r} is {record.status}: {error_text(record.result)}")
    if with_traceback and record.traceback:
        typer.echo(record.traceback.rstrip(), err=True)


def to_json(value: Any) -> str:
    """Return ``value`` as JSON on one line; values without a JSON form become their ``repr``."""
    try:
        return msgspec.json.encode(value, enc_hook=safe_repr).decode()
    except (TypeError, ValueError, RecursionError):  # keys that JSON does not allow, lone surrogates, ...
        return msgspec.json.encode(ascii(value)).decode()


def object_to_json(fields: Mapping[str, Any]) -> str:
    """Return ``fields`` as one JSON object; a value without a JSON form does not affect the others."""
    return f"{{{','.join(f'{to_json(name)}:{to_json(value)}' for name, value in fields.items())}}}"


def as_json(record: Record) -> str:
    """Return a record as one JSON object; Celery's names, exceptions in Celery's form."""
    shown: dict[str, Any] = {
        "id": record.id,
        "status": record.status,
        "ready": record.ready,
        "result": _plain(record.result),
        "traceback": record.traceback,
        "date_done": record.date_done,
    }
    if record.error is not None:
        shown["result"], shown["error"] = None, str(record.error)
    shown.update({name: value for name in _OPTIONAL if (value := getattr(record, name)) is not None})
    return object_to_json(shown)


def _plain(result: Any) -> Any:
    if not isinstance(result, BaseException):
        return result
    module, name, args = identity(result)
    form: dict[str, Any] = {"exc_type": name, "exc_message": [_argument(arg) for arg in args], "exc_module": module}
    if isinstance(result, RemoteTaskError) and result.message is not None:
        form["exc_text"] = result.message
    return form


def _argument(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else safe_repr(value)


def value_text(value: Any) -> str:
    """Return a task's value for people: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else to_json(value)


def error_text(error: object) -> str:
    """Return an exception on one line, with its type."""
    if not isinstance(error, BaseException):
        return safe_repr(error)
    if isinstance(error, TaskRevokedError):
        return str(error) or "revoked"
    module, name, _ = identity(error)
    qualified = name if module in (None, "builtins") else f"{module}.{name}"
    text = str(error)
    return qualified if not text else text if qualified in text else f"{qualified}: {text}"


def summary(record: Record) -> str:
    """Return a record's value, error or progress on one line."""
    if isinstance(record.result, BaseException):
        return error_text(record.result)
    if record.result is None and not record.ready:
        return ""
    progress = progress_of(record)
    if progress is None:
        return value_text(record.result)
    current, total = progress
    return f"{current:g}" if total is None else f"{current:g}/{total:g}"


def progress_of(record: Record) -> tuple[float, float | None] | None:
    """Return how much is done and how much there is, if the state says so in the usual form."""
    meta = record.result
    if record.ready or not isinstance(meta, Mapping) or not isinstance(meta.get("current"), (int, float)):
        return None
    total = meta.get("total")
    return float(meta["current"]), float(total) if isinstance(total, (int, float)) and total > 0 else None
