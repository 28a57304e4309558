"""Tests for stores, and a store for tests.

``StoreTests`` is the conformance suite that our own stores pass; ``FaultyStore`` is a memory store that fails on
demand.
"""

import pkgutil

import pytest

# Failed assertions show their values only in modules that pytest has rewritten, and it knows of these from here alone.
pytest.register_assert_rewrite(*(f"{__name__}.{part.name}" for part in pkgutil.iter_modules(__path__)))

from aioresult.testing.conformance import StoreTests  # noqa: E402  (after they are registered)
from aioresult.testing.faults import FaultyStore  # noqa: E402  (after they are registered)

__all__ = ["FaultyStore", "StoreTests"]
