"""Translating connection options, which URLs and ``connect_args`` may spell for any driver, to the driver in use.

URLs and settings are often written for another driver: psycopg2 and libpq, mysqlclient, PyMySQL. ``spellings`` contains
the translation of each option. Options without a meaning for the driver are left out; any other option is refused by
name.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from aioresult.errors import SettingsError
from aioresult.stores.sqlalchemy.spellings import Driver, driver_called

logger = logging.getLogger("aioresult")


class Given(NamedTuple):
    """Options and their source for messages: a URL or a setting, without credentials."""

    options: Mapping[str, Any]
    source: str


def connect_args(driver: str, *given: Given) -> dict[str, Any]:
    """Return the arguments of ``driver`` for all ``given`` options; later ones win.

    Raises:
        SettingsError: an option or its value is not understood.
    """
    dialect = driver_called(driver)
    found: dict[str, Any] = {}
    for options, source in given:
        for spelled, value in options.items():
            name = dialect.normalized(spelled)
            if name in dialect.without_meaning:
                logger.debug("%s: the option %r means nothing to %s, and is left out", source, spelled, driver)
                continue
            if name not in dialect.rules:
                raise SettingsError(f"{source}: the option {spelled!r} is {_advice(dialect, name, driver)}")
            try:
                arguments = dialect.rules[name](value[-1] if isinstance(value, tuple) else value)
            except (ValueError, TypeError) as exc:
                raise SettingsError(f"{source}: the option {spelled!r} has to be {exc}") from None
            for argument, part in arguments.items():
                merges = isinstance(part, dict) and isinstance(found.get(argument), dict)
                found[argument] = {**found[argument], **part} if merges else part
    return found


def _advice(driver: Driver, name: str, shown: str) -> str:
    if name in driver.elsewhere:
        return f"more than {shown} can do; leave it out, or use {driver.alternative}, which can"
    nearest = difflib.get_close_matches(name, [*driver.rules, *driver.without_meaning], n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"not known, neither to {shown} nor here{hint}"
