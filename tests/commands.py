"""Small programs that stand for larger ones, which they have a preloaded process run: see ``tests.preloaded``.

The larger one gets the arguments, environment, folder and streams that the small one got, and the signals that it gets;
the small one ends as it does, and if that is killed, so is the larger one.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Final

from tests.preloaded import start

ADDRESS: Final = "TESTS_PRELOADED"
"""The variable that has the address of the preloaded process."""
_PROGRAM: Final = """\
#!/bin/sh
'''exec' {python} -S "$0" "$@"
''' # for the shell, which takes any path; for Python this is a string
from {module} import main

main()
"""
_SIGNALS: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def install(folder: Path, *names: str) -> None:
    """Make programs in ``folder``: ``python`` runs modules, others the script of their name beside the interpreter."""
    for name in names:
        program = folder / name
        program.write_text(_PROGRAM.format(python=shlex.quote(sys.executable), module=__name__))
        program.chmod(0o700)


def main() -> None:
    program, *arguments = sys.argv
    if Path(program).name == "python":
        option, program, *arguments = arguments
        assert option == "-m", "only modules are run"
    else:
        program = str(Path(sys.executable).with_name(Path(program).name))
    process = start(os.environ[ADDRESS], program, arguments, os.environ, [0, 1, 2], Path.cwd())
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: process.send_signal(number))
    code = process.wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
