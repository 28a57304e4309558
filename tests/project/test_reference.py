"""The tables of the reference are those of the code: settings, commands, options, exit codes, public names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from celery.app.defaults import DEFAULTS

import aioresult
import aioresult.sync
import aioresult.testing
from aioresult.cli.app import app
from aioresult.cli.exits import MEANINGS
from aioresult.settings import Settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES = {page.stem: page.read_text() for page in FOLDER.glob("*.md")}
COMMON = {"--url", "--set", "--json", "--verbose", "-v", "--help", "-h"}


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables, headings left out."""
    for line in text.splitlines():
        if line.startswith("| `") or re.match(r"\| \d", line):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            yield [cell.strip().replace("\\|", "|") for cell in cells]


def test_the_table_of_settings_has_all_of_them_with_their_types_and_defaults() -> None:
    shown = {row[0].strip("`"): (row[1].strip("`"), row[2].strip("`")) for row in rows(PAGES["settings"])}
    defaults = Settings()
    assert shown == {
        name: (str(Settings.__annotations__[name]), repr(getattr(defaults, name)).replace("'", '"'))
        for name in Settings.__struct_fields__
    }


def test_the_table_of_settings_says_which_of_them_celery_has() -> None:
    unknown = {"global_keyprefix", "poll_interval", "purge_interval"}  # Celery has the same in another form
    # Celery reads these from its configuration, without naming them among its defaults.
    undeclared = {name for name in Settings.__struct_fields__ if name.startswith("redis_")} - set(DEFAULTS)
    for name, _, _, celerys, _ in rows(PAGES["settings"]):
        known = name.strip("`") in set(DEFAULTS) | undeclared | unknown
        assert (celerys != "-") == known, name


def test_no_description_of_what_is_returned_is_taken_for_a_type() -> None:
    """In the first line of a section, Sphinx takes what stands before a colon for the type."""
    sources = {path: path.read_text() for path in (FOLDER.parents[1] / "aioresult").rglob("*.py")}
    first = re.compile(r"^ *(?:Returns|Yields):\n +(.*)$", re.MULTILINE)
    lines = [(path.name, line) for path, source in sources.items() for line in first.findall(source)]
    assert lines
    assert [line for line in lines if ":" in re.sub("``.*?``", "", line[1])] == []


def commands(group: Any, path: str = "aioresult") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_section_with_its_arguments_and_options(name: str) -> None:
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGES["cli"], re.MULTILINE | re.DOTALL)
    options = {option for row in rows(section) for option in re.findall(r"`(-[^`]*)`", row[0])}
    parameters = COMMANDS[name].params
    real = {option for one in parameters if one.param_type_name == "option" for option in one.opts}
    assert options == real - COMMON
    assert real >= {"--url", "--set", "--json", "--verbose"}
    arguments = " ".join(
        f"[{one.metavar}]" if not one.required else f"{one.metavar}..." if one.nargs == -1 else one.metavar
        for one in parameters
        if one.param_type_name == "argument"
    )
    assert f"`{name} {arguments}".rstrip() + "`" in section


def test_each_section_is_a_command() -> None:
    assert set(re.findall(r"^## (aioresult .*)$", PAGES["cli"], re.MULTILINE)) == set(COMMANDS)


def test_the_exit_codes_are_those_of_the_command() -> None:
    shown = {int(row[0]): row[1] for row in rows(PAGES["cli"]) if row[0].isdigit()}
    assert shown == {int(code): meaning for code, meaning in MEANINGS.items()}


def test_each_public_name_is_on_a_page() -> None:
    text = "".join(PAGES.values())
    whole = re.findall(r"automodule:: aioresult\.(\w+)", text)
    missing = [
        name
        for name in aioresult.__all__
        if f":: aioresult.{name}\n" not in text
        and not any(hasattr(__import__(f"aioresult.{module}", fromlist=["x"]), name) for module in whole)
    ]
    assert missing == ["__version__"]
