"""The command, assembled from its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from aioresult import __version__
from aioresult.cli import doctor, results, sql, tailing, writing
from aioresult.cli.demo.command import demo
from aioresult.cli.exits import MEANINGS, Exit
from aioresult.cli.output import print_error, print_line
from aioresult.cli.session import with_session
from aioresult.errors import DOCUMENTATION

_EXITS: Final = "\n".join(f"- {code.value}: {meaning}" for code, meaning in MEANINGS.items())
_UsageError: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""What typer raises for wrong arguments: click's ``ClickException``, wherever this version of typer keeps it."""

app = typer.Typer(
    name="aioresult",
    epilog=f"Exit codes:\n\n{_EXITS}\n\nWhat errors mean, and what to do: {DOCUMENTATION}",
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    demo,
    *(results.get, results.wait, results.watch, tailing.tail),
    *(writing.store, writing.revoke, writing.forget, writing.purge),
    doctor.doctor,
):
    app.command()(with_session(command))
app.add_typer(sql.app, name="sql")


def _show_version(wanted: bool) -> None:
    if wanted:
        print_line(f"aioresult {__version__}")
        raise typer.Exit(Exit.OK)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Wait for, show, store and delete the results of tasks.

    The store is named by --url behind the command (aioresult get ID --url URL), or by AIORESULT_URL.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the command with ``arguments`` and return its exit code."""
    if not arguments:
        app(["--help"], prog_name="aioresult", standalone_mode=False)
        return Exit.USAGE
    try:
        return int(app(list(arguments), prog_name="aioresult", standalone_mode=False) or Exit.OK)
    except _UsageError as exc:
        context = getattr(exc, "ctx", None)
        path = "aioresult" if context is None else context.command_path
        message = exc.format_message() if hasattr(exc, "format_message") else str(exc)
        print_error(f"{message.rstrip('.')} (see: {path} --help)")
        return Exit.USAGE
