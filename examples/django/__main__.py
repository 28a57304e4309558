"""Starts the project: ``python -m examples.django [--port 8000]``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile

import uvicorn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the folder is deleted
    with tempfile.TemporaryDirectory(prefix="django-") as folder:
        os.environ.setdefault("AIORESULT_URL", f"sqlite:///{folder}/results.db")
        uvicorn.run("examples.django.asgi:application", host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
