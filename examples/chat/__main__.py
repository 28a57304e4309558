"""Starts the web server and the worker, and each again when it ends: ``python -m examples.chat [--port 8000]``."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from contextlib import suppress

PAUSE = 0.5
"""Seconds before a process is started again."""


class GaveUp(Exception):
    """One of the processes has ended by itself, because its port is in use for instance."""


async def keep(name: str, *command: str) -> None:
    """Run a module for ever. Where it gives up by itself, give up as well."""
    while True:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command)
        print(f"{name}: process {process.pid} (kill it, and it is started again)", flush=True)
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if code > 0:
            raise GaveUp(f"{name} does not run")
        await asyncio.sleep(PAUSE)


async def main(port: str) -> None:
    web = ["uvicorn", "examples.chat.web:app", "--port", port, "--log-level", "warning"]
    print(f"open http://127.0.0.1:{port}", flush=True)
    async with asyncio.TaskGroup() as both:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]  # a task runs
        both.create_task(keep("worker", "examples.chat.worker"))
        both.create_task(keep("web", *web))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", default="8000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-") as folder, suppress(KeyboardInterrupt, asyncio.CancelledError):
        os.environ.setdefault("AIORESULT_URL", f"sqlite:///{folder}/chat.db")
        try:
            asyncio.run(main(options.port))
        except* GaveUp as given_up:
            sys.exit(str(given_up.exceptions[0]))
