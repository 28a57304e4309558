"""A command of a page, as the preloaded process runs it: ``aioresult`` or ``celery`` first on the page's ``PATH``.

It stands for the script of the same name beside the interpreter: that one gets the arguments, environment, folder and
streams that this one got, and the signals that this one gets; this one ends as that one does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from tests.preloaded import start

COMMANDS: Final = ("aioresult", "celery")
PRELOADED: Final = "TESTS_PRELOADED"
"""The variable that names the descriptor of the preloaded process."""
_SIGNALS: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def install(folder: Path) -> None:
    """Make the commands in ``folder``."""
    for name in COMMANDS:
        command = folder / name
        command.write_text(f"#!{sys.executable} -S\nfrom {__name__} import main\n\nmain()\n")
        command.chmod(0o700)


def main() -> None:
    environment = dict(os.environ)
    with socket.socket(fileno=int(environment.pop(PRELOADED))) as preloaded:
        script = Path(sys.executable).with_name(Path(sys.argv[0]).name)
        process = start(preloaded, str(script), sys.argv[1:], environment, [0, 1, 2], Path.cwd())
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: process.send_signal(number))
    code = process.wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
