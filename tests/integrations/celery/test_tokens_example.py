"""The example of streams: readers are killed, continued and late; producers are stopped, started twice and killed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import commands
from tests.integrations.celery.workers import ROOT
from tests.preloaded import preloaded
from tests.servers import RedisServer

WAIT = 100.0
EXAMPLE = """
import runpy, sys
sys.executable = sys.argv[1]  # by which it starts its processes
runpy.run_module("examples.tokens", run_name="__main__")
"""


@pytest.mark.parametrize("place", ["redis", "sqlite"])
def test_every_reader_gets_every_word_once_and_in_order(place: str, celery_redis: RedisServer, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("AIORESULT_URL", "DATA")}
    environment |= {"PYTHONPATH": str(ROOT), commands.ADDRESS: preloaded().address}
    if place == "redis":
        environment["AIORESULT_URL"] = celery_redis.url.removesuffix("/0") + "/3"
    commands.install(tmp_path, "python")
    python = str(tmp_path / "python")
    command = [python, "-m", "tests.statements", EXAMPLE, python]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stderr
    for producer in ("runner", "Celery"):
        assert f"{producer}: each of three readers got 12 words, once and in order" in done.stdout
    for line in (
        "stopped: the reader was told why, and the producer has ended",
        "started twice: said once, and both starters have seen the end",
        "producer killed: the reader was told that the task is lost",
    ):
        assert line in done.stdout
