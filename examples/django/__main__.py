"""Starts the project: ``python -m examples.django [--port 8000]``."""

from __future__ import annotations

import argparse

import uvicorn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run("examples.django.asgi:application", host="127.0.0.1", port=parser.parse_args().port)


if __name__ == "__main__":
    main()
