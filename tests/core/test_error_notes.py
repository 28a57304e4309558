"""An error names what the documentation says of it, without changing what it says itself."""

from __future__ import annotations

import pickle
import traceback

import pytest

from aioresult import DecodeError, ResultTimeout, SettingsError, StoreUnavailable, StreamGap
from aioresult.errors import AioResultError


def test_a_traceback_names_the_entry_and_the_text_stays() -> None:
    error = StoreUnavailable("Redis is away")
    assert str(error) == "Redis is away"
    last = traceback.format_exception(error)[-2:]
    assert last == [
        "aioresult.errors.StoreUnavailable: Redis is away\n",
        f"What this means: {StoreUnavailable.documentation}\n",
    ]


@pytest.mark.parametrize("error", [ResultTimeout("late"), StreamGap("gap", 3, 4), DecodeError("what?")])
def test_notes_can_be_added_and_are_kept_by_pickle(error: AioResultError) -> None:
    error.add_note("look here")
    back = pickle.loads(pickle.dumps(error))
    assert back.__notes__ == [f"What this means: {error.documentation}", "look here"]
    assert str(back) == str(error)


def test_notes_of_one_error_are_not_those_of_another() -> None:
    SettingsError("one").add_note("mine")
    assert len(SettingsError("two").__notes__) == 1


def test_a_class_without_an_entry_names_that_of_its_base() -> None:
    class OfAnotherPackage(StoreUnavailable):
        """An error of somebody's own store."""

    assert OfAnotherPackage.documentation == StoreUnavailable.documentation
