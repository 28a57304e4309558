"""Starts a Celery worker and the web application: ``python -m examples.fastapi_celery [--port 8000]``."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import uvicorn

ROOT = Path(__file__).parents[2]
WORKER = ["celery", "-A", "examples.fastapi_celery.tasks", "worker", "--pool", "threads", "--concurrency", "8"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the worker is ended, too
    with tempfile.TemporaryDirectory(prefix="fastapi-celery-") as folder:
        os.environ.setdefault("DATA", folder)
        worker = subprocess.Popen([sys.executable, "-m", *WORKER, "--loglevel", "WARNING"], cwd=ROOT)
        try:
            uvicorn.run("examples.fastapi_celery.web:app", host=options.host, port=options.port)
        finally:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    main()
