"""Forked processes of the tests are like new interpreters, but for the imports; and the longest files are there."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests import commands
from tests.blocking import PATIENCE
from tests.conftest import LONGEST
from tests.preloaded import ROOT, Preloaded

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    preloaded = Preloaded("aioresult", "-W", "always")
    yield preloaded
    preloaded.close()


def run(preloaded: Preloaded, program: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run ``program`` and return its exit code and what it has printed, errors included."""
    code, out, err = preloaded.run("tests.statements", [program, *arguments], environment, PATIENCE)
    return code, out + err


def test_a_process_has_its_own_arguments_environment_and_exit_code(preloaded: Preloaded) -> None:
    program = "import os, sys; print(sys.argv[1], dict(os.environ), 'aioresult' in sys.modules); sys.exit(3)"
    assert run(preloaded, program, "first", NAME="value") == (3, "first {'NAME': 'value'} True\n")
    assert run(preloaded, "import os; print(dict(os.environ))") == (0, "{}\n")


def test_a_process_has_the_descriptors_that_it_is_given(preloaded: Preloaded) -> None:
    with TemporaryFile() as nothing, TemporaryFile() as output:
        descriptors = [nothing.fileno(), *[output.fileno()] * 5]
        program = "import os; [os.write(number, b'%d' % number) for number in range(1, 6)]"
        assert preloaded.start("tests.statements", [program], {}, descriptors).wait(PATIENCE) == 0
        output.seek(0)
        assert output.read() == b"12345"


def test_a_process_that_is_killed_says_by_which_signal(preloaded: Preloaded) -> None:
    with TemporaryFile() as file:
        program = "import signal; print(os.getpid() == os.getsid(0), flush=True); signal.pause()"
        arguments = [f"import os; {program}"]
        process = preloaded.start("tests.statements", arguments, {}, [file.fileno()] * 3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
        process.send_signal(signal.SIGTERM)  # it has ended, and nobody else is meant


def test_the_end_of_a_process_reports_what_was_not_closed(preloaded: Preloaded) -> None:
    program = "import socket; left = type('Left', (socket.socket,), {})(); left.itself = left"  # a cycle, as tasks are
    code, output = run(preloaded, program)
    assert code == 0
    assert "ResourceWarning: unclosed" in output


def stand_in(preloaded: Preloaded, folder: Path, program: str) -> subprocess.Popen[str]:
    """Start a command that stands for ``python -m tests.statements``."""
    commands.install(folder, "python")
    return subprocess.Popen(
        [folder / "python", "-m", "tests.statements", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), commands.ADDRESS: preloaded.address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_command_has_the_streams_folder_and_exit_code_of_the_process_that_it_stands_for(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    with stand_in(preloaded, tmp_path, "import os; print(os.getcwd(), input()); raise SystemExit(5)") as command:
        assert command.communicate("typed\n", PATIENCE)[0] == f"{tmp_path} typed\n"
        assert command.returncode == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_and_the_process_that_it_stands_for_end_by_the_same_signal(
    preloaded: Preloaded, tmp_path: Path, number: signal.Signals
) -> None:
    program = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
print(os.getpid(), flush=True)
signal.pause()
"""
    with stand_in(preloaded, tmp_path, program) as command:
        assert command.stdout is not None
        pid = int(command.stdout.readline())
        assert pid != command.pid
        command.send_signal(number)
        assert command.wait(PATIENCE) == -number
        assert command.stdout.read() == ""  # nobody has it open any more


def test_the_files_that_are_named_as_the_longest_exist() -> None:
    assert [file for file in LONGEST if not (TESTS / file).is_file()] == []
