"""What the benchmarks' children import sooner or later, for ``tests.preloaded``."""

from __future__ import annotations

from importlib import import_module

for name in """
    aioresult.stores.redis benchmarks.child benchmarks.contestants.aioresult benchmarks.contestants.redis_py
    benchmarks.contestants.redis_streams benchmarks.floor.redis benchmarks.floor.streams
""".split():
    import_module(name)
