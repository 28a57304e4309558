"""Calls that newcomers get wrong: each is refused where it is made, and told what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import aioresult
from aioresult import AsyncResult, Backend, GroupResult, InvalidTaskId, ResultSet, SettingsError, TaskRunner
from aioresult.integrations.asgi import PUBLIC, ResultsApp
from aioresult.sync import Backend as BlockingBackend
from aioresult.sync import gather as blocking_gather


class Mistaken:
    """Something that is no backend, with a class name that the message shows."""


@pytest.mark.parametrize("given", ["redis://localhost", Mistaken(), BlockingBackend("memory://")])
def test_what_is_no_backend_is_refused_where_it_is_given(given: Any) -> None:
    makers: list[Callable[[], object]] = [
        lambda: AsyncResult("a", given),
        lambda: ResultSet([], backend=given),
        lambda: GroupResult("g", backend=given),
        lambda: TaskRunner(given),
        lambda: ResultsApp(given, PUBLIC),
    ]
    kind = type(given)
    for make in makers:
        with pytest.raises(SettingsError, match=rf"not {kind.__module__}.{kind.__name__}: write Backend\(url\)"):
            make()


@pytest.mark.parametrize("name", ["result", "state", "info", "traceback", "date_done", "worker"])
def test_an_attribute_of_celerys_result_is_named_with_what_is_awaited_instead(name: str) -> None:
    result: Any = AsyncResult("a")
    with pytest.raises(AttributeError, match=rf"no attribute '{name}': .*await result\.fetch\(\)"):
        getattr(result, name)
    assert not hasattr(result, name)


async def test_what_is_awaited_instead_has_the_attributes() -> None:
    async with Backend("memory://") as backend:
        await backend.store_result("a", 7, "SUCCESS")
        record = await backend.AsyncResult("a").fetch()
    assert (record.result, record.state, record.traceback, record.worker) == (7, "SUCCESS", None, None)


def test_an_attribute_that_nobody_knows_is_an_ordinary_error() -> None:
    result: Any = AsyncResult("a")
    with pytest.raises(AttributeError, match=r"'AsyncResult' object has no attribute 'nonesuch'$"):
        _ = result.nonesuch


async def test_a_list_in_place_of_results_is_told_apart() -> None:
    gather: Any = aioresult.gather
    blocking: Any = blocking_gather
    wait: Any = aioresult.wait
    with pytest.raises(TypeError, match=r"list is no result.*gather\(\*results\)"):
        await gather([AsyncResult("a")])
    mistakes: list[Any] = [[], AsyncResult("a")]
    for given in mistakes:
        with pytest.raises(TypeError, match=r"is no result of aioresult.sync: .*gather\(\*results\)"):
            blocking(given)
    with pytest.raises(TypeError, match=r"str is no result.*AsyncResult\(task_id\)"):
        await wait(["a"])
    with pytest.raises(TypeError, match="str is no result"):
        async for _ in aioresult.as_completed("a"):  # type: ignore[arg-type]  # the mistake
            pass


@pytest.mark.parametrize("timeout", ["10", timedelta(seconds=10), float("nan")])
async def test_a_timeout_that_is_no_number_is_shown(timeout: Any) -> None:
    async with Backend("memory://") as backend:
        with pytest.raises((TypeError, ValueError), match=r"timeout is a number of seconds or None, not .*(10|nan)"):
            await backend.AsyncResult("a").get(timeout)


@pytest.mark.parametrize("state", [1, None, {"total": 1}])
async def test_a_state_that_is_no_name_shows_the_order_of_the_arguments(state: Any) -> None:
    async with Backend("memory://") as backend:
        with pytest.raises(TypeError, match=r"store_result\(task_id, result, 'SUCCESS'\)"):
            await backend.store_result("a", "SUCCESS", state)
        assert await backend.AsyncResult("a").status() == "PENDING"


@pytest.mark.parametrize("state", ["success", "Failure", "revoked"])
async def test_a_final_state_in_other_letters_would_end_no_waiting_and_is_refused(state: str) -> None:
    async with Backend("memory://") as backend:
        with pytest.raises(ValueError, match=f"'{state}' is not final.*'{state.upper()}'"):
            await backend.store_result("a", 1, state)
        assert await backend.AsyncResult("a").status() == "PENDING"
        assert await backend.update_state("a", "Succeeding", 1)  # any other name is a state of one's own


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_runner_takes_the_function_and_not_its_call() -> None:
    async def double(number: int) -> int:
        return 2 * number

    async with Backend("memory://") as backend, TaskRunner(backend) as runner:
        submit: Any = runner.submit
        with pytest.raises(TypeError, match=r"not coroutine: submit\(fn, 1\) in place of submit\(fn\(1\)\)"):
            submit(double(1))
        assert await submit(double, 1) == 2


def test_a_result_in_place_of_an_id_is_told_so() -> None:
    with pytest.raises(InvalidTaskId, match=r"not AsyncResult: .*; pass its id"):
        AsyncResult(AsyncResult("a"))  # type: ignore[call-overload]  # the mistake


@pytest.mark.parametrize(("name", "nearest"), [("serializer", "result_serializer"), ("expires", "result_expires")])
def test_a_misspelled_setting_is_taken_for_one_that_does_something(name: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=f"did you mean '{nearest}'"):
        Backend("memory://", **{name: 1})


def test_types_of_settings_are_named_as_in_python() -> None:
    with pytest.raises(SettingsError, match=r"result_expires: Expected `float \| None`, got `str`"):
        Backend("memory://", result_expires="1h")
