"""``aioresult doctor``: whether a store can be used from here, how it wakes waiters, and what to change."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aioresult.abc import Capabilities
from aioresult.backend import Backend
from aioresult.background import owned_task
from aioresult.cli.exits import Exit
from aioresult.cli.output import print_line, to_json
from aioresult.cli.session import Session
from aioresult.errors import AioResultError

_ROUNDS: Final = 5
_TEST_ID: Final = "aioresult-doctor-"
_PAUSE: Final = 0.1
"""Seconds for a subscription to take effect before the test record is stored."""
_PATIENCE: Final = 10.0
_SLOW_PUSH: Final = 0.05
_SETTINGS: Final = (
    "result_expires result_serializer accepted result_compression result_extended purge_interval max_result_bytes "
    "fallback_interval poll_interval"
).split()
_VALUE: Final = {"text": "h\u00e9llo \u4e2d", "numbers": [1, 2.5, None], "nested": {"a": [True]}}


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was found so far; times are milliseconds."""

    store: str
    reachable: bool = False
    connect_ms: float | None = None
    ping_ms: float | None = None
    read_ms: float | None = None
    capabilities: Capabilities | None = None
    push: bool | None = None
    wake_up_ms: list[float] = []
    settings: dict[str, Any] = {}
    needs_purge: bool | None = None
    advice: list[str] = []
    error: str | None = None


async def doctor(
    session: Session,
    target: Annotated[
        str | None, typer.Argument(metavar="URL", show_default=False, help="Store; or use --url.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Store nothing: for a user who may only wait and read.")
    ] = False,
) -> Exit:
    """Check a store: connection, push, a round trip with its wake-up time, settings; and give advice.

    Stores a few test records, waits for them, and deletes them again.
    """
    if target:
        session = msgspec.structs.replace(session, url=target)
    async with session.backend() as backend:
        report = Report(store=backend._runtime.store.location)
        try:
            await _examine(session, backend, report, read_only=read_only)
        except AioResultError as exc:
            report.error = str(exc)
            raise
        finally:
            if session.json:
                print_line(to_json(msgspec.to_builtins(report)))
            else:
                _show(report)
        return Exit.OK


async def _examine(session: Session, backend: Backend, report: Report, *, read_only: bool) -> None:
    report.connect_ms = await _timed(backend.ping())
    report.reachable = True
    report.ping_ms = min([await _timed(backend.ping()) for _ in range(3)])
    report.capabilities = await backend.capabilities()
    report.push = report.capabilities.push and backend.settings.push
    report.settings = _settings(backend)
    report.needs_purge = backend._runtime.store.needs_purge
    report.read_ms = await _timed(backend.fetch(f"{_TEST_ID}{uuid.uuid4()}"))
    if report.capabilities.writes and not read_only:
        report.advice = ["Where this user is only to wait and read, check with `aioresult doctor --read-only`."]
        await _make_rounds(session, backend, report)  # if nothing can be stored, the advice is shown
    report.advice = _advice(backend, report, read_only=read_only)


async def _make_rounds(session: Session, backend: Backend, report: Report) -> None:
    async with AsyncExitStack() as stack:
        private = backend._runtime.store.location == "memory://"  # a second backend would get another store
        writer = backend if private else await stack.enter_async_context(session.backend())
        for _ in range(_ROUNDS):
            report.wake_up_ms.append(await _wake_up(backend, writer))


async def _timed(call: Awaitable[object]) -> float:
    began = time.perf_counter()
    await call
    return (time.perf_counter() - began) * 1000


async def _wake_up(backend: Backend, writer: Backend) -> float:
    """Return the milliseconds from storing a test record over one connection to waking the waiter on another."""
    result = backend.AsyncResult(f"{_TEST_ID}{uuid.uuid4()}")
    waiting = owned_task(_woken(backend, result.id), "aioresult doctor")
    try:
        await asyncio.sleep(_PAUSE)
        began = time.perf_counter()
        await writer.mark_as_done(result.id, _VALUE)
        record, woken = await waiting
        if record != _VALUE:
            raise AioResultError(f"{backend._runtime.store.location} gave back {record!r} instead of {_VALUE!r}")
    except BaseException:
        waiting.cancel()
        with suppress(AioResultError):  # the first error says what is wrong
            await result.forget()
        await asyncio.gather(waiting, return_exceptions=True)
        raise
    await result.forget()
    return (woken - began) * 1000


async def _woken(backend: Backend, task_id: str) -> tuple[Any, float]:
    record = await backend.AsyncResult(task_id).wait(timeout=_PATIENCE)
    return record.result, time.perf_counter()


def _settings(backend: Backend) -> dict[str, Any]:
    shown = {name: getattr(backend.settings, name) for name in _SETTINGS}
    return shown | {"accepted": sorted(backend.settings.accepted)}


def _advice(backend: Backend, report: Report, *, read_only: bool) -> list[str]:
    settings = backend.settings
    found = {
        "Nothing can be stored here, so no round trip was made: workers need the URL of a server that takes writes.": (
            report.capabilities is not None and not report.capabilities.writes
        ),
        "The setting push is off: who waits is woken by polling.": not settings.push,
        f"Without push, a result is noticed up to {settings.poll_interval:g} s late (poll_interval).": not report.push,
        "Push works, but slowly: look at the network and at the load of the store.": bool(
            report.push and report.wake_up_ms and statistics.median(report.wake_up_ms) > _SLOW_PUSH * 1000
        ),
        "Results are kept for ever: set result_expires, unless they are deleted by other means.": (
            not settings.result_expires
        ),
        "Expired results stay in the store until they are purged: run `aioresult purge` now and then, or set "
        "purge_interval.": bool(
            report.needs_purge and not read_only and settings.result_expires and not settings.purge_interval
        ),
        "Pickle is accepted: everyone who can write to the store can run code here.": "pickle" in settings.accepted,
    }
    return [text for text, applies in found.items() if applies]


# --- for people ---


def _show(report: Report) -> None:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for good, topic, text in _findings(report):
        table.add_row(Text("ok", "green") if good else Text("--", "yellow"), Text(topic), Text(text))
    for text in report.advice:
        table.add_row(Text("!", "yellow"), "advice", Text(text))
    Console(highlight=False).print(table)


def _findings(report: Report) -> list[tuple[bool, str, str]]:
    """Return the findings: whether each is good, its subject, and its text."""
    if not report.reachable:
        return [(False, "store", f"{report.store}, not reached")]
    times = f"reached in {report.connect_ms:.1f} ms, then {report.ping_ms:.2f} ms each time"
    found = [(True, "store", f"{report.store}, {times}")]
    if report.capabilities is not None:
        reason = f" ({report.capabilities.reason})" if report.capabilities.reason else ""
        topic = "push" if report.push else "no push"
        best = bool(report.push) and not reason
        found.append((best, topic, f"{report.capabilities.mechanism}{reason}"))
        found.extend((True, name, text) for name, text in report.capabilities.details.items())
    if report.read_ms is not None and not report.wake_up_ms:
        found.append((True, "reading", f"permitted, in {report.read_ms:.1f} ms; nothing was stored"))
    if report.wake_up_ms:
        median, slowest = statistics.median(report.wake_up_ms), max(report.wake_up_ms)
        text = f"woken {median:.1f} ms after storing (median of {_ROUNDS}; slowest {slowest:.1f} ms)"
        found.append((True, "round trip", text))
    return found + _findings_about_settings(report)


def _findings_about_settings(report: Report) -> list[tuple[bool, str, str]]:
    chosen = report.settings
    if not chosen:
        return []
    expires = chosen["result_expires"]
    how = "until purged" if report.needs_purge else "by the store itself"
    written = f"{chosen['result_serializer']}, {chosen['result_compression'] or 'not compressed'}"
    return [
        (bool(expires), "expiry", f"{_duration(expires)}, {how}" if expires else "never"),
        (True, "format", f"writes {written}; reads {', '.join(chosen['accepted'])}"),
    ]


def _duration(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = seconds / size
            return f"{count:g} {name}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
