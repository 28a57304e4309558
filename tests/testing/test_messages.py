"""A store that breaks a promise is told which: what the conformance suite prints about stores that are broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.blocking import PATIENCE
from tests.preloaded import preloaded

PREAMBLE = """
import asyncio

import aioresult.testing.fixtures
from aioresult import Backend
from aioresult.errors import StoreUnavailable
from aioresult.settings import make_settings
from aioresult.stores.memory import MemoryStore
from aioresult.testing import StoreTests

aioresult.testing.fixtures.PATIENCE = 0.2


class TestBroken(StoreTests):
    def make_backend(self, **settings):
        return Backend(Broken("memory://broken", make_settings(settings)))


"""
WITHOUT_VALUES = """
class Broken(MemoryStore):
    async def get_many(self, ids):
        return {id: self.codec.decode_record(id, b'{"status": "SUCCESS"}') for id in ids}
"""
READ_ONLY = """
class Broken(MemoryStore):
    async def put_many(self, records):
        raise StoreUnavailable("the disk is full")
"""
WITHOUT_EVENTS = """
class SilentFeed:
    async def watch(self, ids): ...
    async def unwatch(self, ids): ...
    async def aclose(self): ...
    async def __aiter__(self):
        await asyncio.get_running_loop().create_future()
        yield


class Broken(MemoryStore):
    async def feed(self):
        return SilentFeed()
"""
WITH_A_FEED_THAT_ENDS = WITHOUT_EVENTS.replace(
    "await asyncio.get_running_loop().create_future()", "raise StoreUnavailable('the watcher has died')"
)
WITHOUT_EXPIRY = """
class Broken(MemoryStore):
    def __init__(self, url, settings):
        super().__init__(url, make_settings({}))
"""


def failed(folder: Path, store: str, tests: str, *options: str) -> str:
    """Return what pytest prints about ``store``, which has to fail."""
    file = folder / "test_broken.py"
    file.write_text(PREAMBLE + store)
    plugins = ["-p", "no:cacheprovider", "-p", "no:anyio", "-p", "no:hypothesispytest"]
    arguments = ["-q", *plugins, "-k", tests, *options, str(file)]
    code, printed, errors = preloaded("tests.testing.imports").run("pytest", arguments, os.environ, 2 * PATIENCE)
    assert code == pytest.ExitCode.TESTS_FAILED, printed + errors
    return printed + errors


def test_a_failed_assertion_shows_what_was_stored_and_what_came_back(tmp_path: Path) -> None:
    printed = failed(tmp_path, WITHOUT_VALUES, "values_come_back")
    assert "At index 2 diff: None != True" in printed


def test_errors_of_tasks_that_a_failed_test_has_left_do_not_hide_its_own(tmp_path: Path) -> None:
    printed = failed(tmp_path, READ_ONLY, "wait or awaited or reader or strange or conditional")
    assert "the disk is full" in printed
    assert "never retrieved" not in printed
    assert "already running" not in printed


def test_an_event_that_is_owed_and_missing_is_named_with_its_rule(tmp_path: Path) -> None:
    printed = failed(tmp_path, WITHOUT_EVENTS, "owed_an_event")
    assert "not within 0.2 s: an event for each id that is watched (Feed, rule 1)" in printed


def test_a_feed_that_ends_shows_by_which_error(tmp_path: Path) -> None:
    printed = failed(tmp_path, WITH_A_FEED_THAT_ENDS, "owed_an_event")
    assert "the feed ended, though nobody has closed it" in printed
    assert "the watcher has died" in printed


def test_what_does_not_come_true_is_named(tmp_path: Path) -> None:
    printed = failed(tmp_path, WITHOUT_EXPIRY, "is_gone_once_it_is_purged")
    assert "not within 0.2 s: a record that expires after 1 s is gone by then" in printed


def test_what_the_others_build_on_is_tested_first(tmp_path: Path) -> None:
    printed = failed(tmp_path, READ_ONLY, "Test", "-x")
    assert "test_values_come_back_as_they_were" in printed
    assert "skipped" not in printed
