"""Options, backend and exit of all commands."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import Signature, signature
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from aioresult.backend import Backend
from aioresult.cli.exits import Exit, exit_for
from aioresult.cli.output import escape_what_cannot_be_printed, print_error
from aioresult.errors import AioResultError, BackendNotConfigured, SettingsError

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="AIORESULT_URL", show_default=False, help="The store, such as redis://localhost:6379/0."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", show_default=False, help="A setting, as result_serializer=msgpack; repeatable."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, and nothing else.")]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, show_default=False, help="Log; -vv logs more.")]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number of seconds") from None
    if math.isnan(seconds) or seconds < 0:
        raise typer.BadParameter(f"{text!r} is not a number of seconds, 0 or more")
    return seconds


Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        "-t",
        parser=_seconds,
        metavar="SECONDS",
        show_default=False,
        help="How long to wait; 0 looks once, and without it there is no limit.",
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a task.", show_default=False)]
Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of tasks.", show_default=False)]


class Session(msgspec.Struct, frozen=True):
    """One call of the command. Its fields are the options that all commands have.

    Attributes:
        url: the store, if one was given.
        settings: assignments ``name=value``.
        json: print for machines.
        verbose: 0 logs nothing but warnings, 1 information, 2 everything.
    """

    url: Url = None
    settings: Settings = None
    json: Json = False
    verbose: Verbose = 0

    def backend(self, **settings: Any) -> Backend:
        """Return a backend for the URL and settings of the call; ``settings`` override them.

        Raises:
            BackendNotConfigured: there is no URL.
            SettingsError: the URL or a setting is not understood.
        """
        if not self.url:
            raise BackendNotConfigured(
                "no result backend is configured: give --url, or set AIORESULT_URL in the environment"
            )
        return Backend(self.url, **{**self.assignments(), **settings})

    def assignments(self) -> dict[str, Any]:
        """Return the settings that were given by ``--set``."""
        return dict(map(_assignment, self.settings or ()))

    def execute(self, command: Coroutine[Any, Any, Exit]) -> NoReturn:
        """Run ``command`` and exit with its code; for an error, print it in one line and exit with its code."""
        level = {0: logging.WARNING, 1: logging.INFO}.get(self.verbose, logging.DEBUG)
        escape_what_cannot_be_printed()
        logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

        try:
            code = asyncio.run(command)
            sys.stdout.flush()
        except AioResultError as exc:
            print_error(f"{exc} (see: {exc.documentation})")
            code = exit_for(exc)
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is flushed into it at exit
            code = Exit.PIPE
        except Exception:  # noqa: BLE001  (shown in full; its exit code must differ from that of a failed task)
            traceback.print_exc()
            code = Exit.BUG
        raise typer.Exit(code)


def with_session(command: Callable[..., Coroutine[Any, Any, Exit]]) -> Callable[..., NoReturn]:
    """Return ``command`` as typer needs it: the fields of its session are options, and the process ends with its code.

    ``command`` takes the session and its own arguments, and returns a coroutine. It is called before the event loop
    runs: until it returns, it may raise typer's errors and read standard input.
    """
    fields = signature(Session, eval_str=True).parameters
    _, *own = signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def call(**given: Any) -> NoReturn:
        session = Session(**{name: given.pop(name) for name in fields})
        session.execute(command(session, **given))

    call.__signature__ = Signature([*own, *fields.values()])  # type: ignore[attr-defined]  # what typer reads
    return call


def _assignment(text: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``; the value is JSON or, if it is not valid JSON, text."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise SettingsError(f"--set expects NAME=VALUE, not {name!r}")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value
