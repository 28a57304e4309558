"""The demo: real processes, compared values, measured wake-ups, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import redis

from aioresult import Backend
from aioresult.cli.demo.phases import Outcome, WrongValue, measure
from aioresult.cli.demo.process import Worker
from aioresult.cli.exits import Exit
from tests.blocking import PATIENCE, eventually
from tests.commandline import COMMAND, Finished, aioresult, end, environment
from tests.test_cli import in_a_terminal

T = TypeVar("T")
FEW = "4"
MANY = "400"


def test_both_ways_give_every_value_and_are_measured() -> None:
    ended = aioresult("demo", "--tasks", FEW, "--json")
    (report,) = ended.objects
    assert (ended.code, ended.err, report["tasks"]) == (0, "", 4)
    assert report["store"].startswith("sqlite:")
    for way in ("push", "polling"):
        measured = report[way]
        assert measured["values_compared"] == 4
        assert 0 < measured["p50_ms"] <= measured["p99_ms"] <= measured["max_ms"]
        assert measured["commands"] > 0
        assert measured["states_seen"] >= 4
    assert report["polling"]["mechanism"] == "polling every 0.5 s"
    assert not Path(report["store"].removeprefix("sqlite:///")).parent.exists()


def test_any_store_that_two_processes_share_will_do_and_is_left_as_it_was(redis_url: str) -> None:
    ended = aioresult("demo", "--tasks", FEW, "--set", "result_serializer=msgpack", url=redis_url)
    assert (ended.code, ended.err) == (0, "")
    assert "All 8 values are what the tasks computed." in ended.out
    assert "Redis pub/sub" in ended.out
    assert re.search(r"wake-up, p50 +[\d.]+ ms +[\d.]+ ms", ended.out)
    assert "\x1b" not in ended.out  # this is no terminal
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys() == []


def test_on_a_terminal_it_draws_bars(redis_url: str) -> None:
    drawn = in_a_terminal("demo", "--tasks", FEW, url=redis_url)
    assert "━" in drawn
    assert "4/4" in drawn
    assert max(len(re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line)) for line in drawn.splitlines()) <= 80


def start_demo(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a demo that takes a while, and return it and the process id of its worker once the work goes on."""
    process = subprocess.Popen(
        [*COMMAND, "demo", "--tasks", MANY],
        env={**environment(), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"process (\d+)", line):
            return process, int(found[1])
    raise AssertionError(f"the demo ended before it began: {end(process)}")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_death_of_the_worker_ends_the_demo_with_the_reason(tmp_path: Path) -> None:
    process, worker = start_demo(tmp_path)
    os.kill(worker, signal.SIGKILL)
    ended: Finished = end(process)
    assert ended.code == Exit.FAILED
    assert ended.err == f"aioresult: the worker, process {worker}, was killed by SIGKILL\n"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_worker_too(tmp_path: Path) -> None:
    process, worker = start_demo(tmp_path)
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert (ended.code, ended.err) == (Exit.INTERRUPTED, "")
    assert not is_running(worker)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_whose_parent_is_killed_ends_by_itself(tmp_path: Path) -> None:
    process, worker = start_demo(tmp_path)
    process.kill()
    end(process)
    eventually(lambda: not is_running(worker))


class Deceiver(Worker):
    """Stores something else than the first task would, and nothing for the others."""

    def __init__(self, backend: Backend, wrong: object) -> None:
        super().__init__("memory://", {})
        self._backend = backend
        self._wrong = wrong

    async def order(self, ids: Sequence[str], seed: str, at_once: int) -> None:
        if isinstance(self._wrong, Exception):
            await self._backend.mark_as_failure(ids[0], self._wrong)
        else:
            await self._backend.mark_as_done(ids[0], self._wrong)

    async def alive_during(self, waiting: asyncio.Future[T]) -> T:
        return await waiting


@pytest.mark.parametrize("wrong", [{"number": 0, "value": "wrong", "stored_at": 0}, ValueError("boom")])
async def test_a_wrong_value_ends_the_demo(wrong: object) -> None:
    async with asyncio.timeout(PATIENCE), Backend("memory://") as backend:
        with pytest.raises(WrongValue, match=r"unexpected value: .*(wrong|boom)"):
            await measure(Deceiver(backend, wrong), backend, 3, lambda *_: None, lambda _: None)
        assert backend.stats().waiting == 0


@pytest.mark.parametrize(("count", "half", "most"), [(1, 1, 1), (2, 1, 2), (100, 50, 99), (200, 100, 198)])
def test_percentiles_are_values_that_were_measured(count: int, half: float, most: float) -> None:
    outcome = Outcome(mechanism="", wake_ups=[float(n + 1) for n in range(count)], commands=0, states=0, seconds=0)
    assert (outcome.percentile(50), outcome.percentile(99)) == (half, most)
