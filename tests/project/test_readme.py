"""Every example in the README does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
URL = "redis://localhost:6379/0"
OTHER_URL = "redis://127.0.0.1:6379/0"


def run(*command: str, redis_url: str) -> str:
    environment = {**os.environ, "AIORESULT_URL": redis_url, "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def program_with(word: str, redis_url: str) -> str:
    program: str
    (program,) = [program for program in PROGRAMS if word in program]
    assert URL in program
    return program.replace(URL, redis_url)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("result.fetch()", "{'total': 99.5}\nSUCCESS True\n"),
        ("aioresult.gather", "[0, 10, 20]\n"),
        ("progress(number", "SUCCESS 5\n"),
        ("result.stream(", "1 Because\n2 it\n3 is.\n"),
        ("aioresult.sync", "nightly-report\nSUCCESS\n{'rows': 12}\n"),
    ],
)
def test_a_program_runs_and_prints_what_its_comments_say(word: str, expected: str, redis_url: str) -> None:
    assert expected in run(sys.executable, "-c", program_with(word, redis_url), redis_url=redis_url)


def test_the_web_application_answers_and_streams(redis_url: str) -> None:
    program = program_with("fastapi", redis_url) + textwrap.dedent(
        """
        import asyncio
        import httpx

        async def main() -> None:
            await aioresult.get_backend().store_result("a", {"total": 1}, "SUCCESS")
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
                print((await client.get("/tasks/a")).json(), (await client.get("/tasks/a/progress")).text.strip())

        asyncio.run(main())
        """
    )
    assert run(sys.executable, "-c", program, redis_url=redis_url) == "{'total': 1} SUCCESS {'total': 1}\n"


def test_every_program_is_among_those() -> None:
    assert len(PROGRAMS) == 6


def test_the_commands_of_the_operator_work(redis_url: str) -> None:
    commands = [line.removeprefix("$ ") for line in TEXT.splitlines() if line.startswith("$ aioresult ")]
    assert len(commands) == 5
    outputs = []
    for command in commands:
        arguments = shlex.split(command.replace(URL, redis_url).replace(OTHER_URL, redis_url))[1:]
        outputs.append(run(sys.executable, "-m", "aioresult", *arguments, redis_url=redis_url))
    assert json.loads(outputs[1]) == {"total": 99.5}
    assert "SUCCESS" in outputs[2]
    assert "pub/sub" in outputs[3]
    shown = TEXT.split("$ aioresult doctor redis://127")[1].split("```")[0].splitlines()[1:]
    assert [line[:14] for line in shown] == [line[:14] for line in outputs[4].splitlines() if line.strip()]


def test_every_file_that_is_pointed_to_exists() -> None:
    for target in re.findall(r"\]\(([^):]+)\)", TEXT):
        assert (README.parent / target).exists(), target


def test_the_two_commands_are_those_of_the_makefile() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"$ make {target} " in TEXT
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
