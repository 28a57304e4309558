"""What an inner run of pytest imports, for ``tests.preloaded``; but not the suite, whose assertions pytest rewrites."""

from __future__ import annotations

from importlib import import_module

for name in "pytest pytest_asyncio.plugin aioresult.stores.memory aioresult.sync".split():
    import_module(name)
