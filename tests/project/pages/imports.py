"""What pages and their commands import sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

from importlib import import_module

for name in """
    tests.imports tests.cli.imports tests.project.pages.running
    fastapi httpx pytest_asyncio sse_starlette taskiq uvicorn
    aioresult.integrations.asgi aioresult.testing
""".split():
    import_module(name)
