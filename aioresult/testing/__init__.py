"""Tests for stores, and a store for tests.

``StoreTests`` is the conformance suite that our own stores pass; ``FaultyStore`` is a memory store that fails on
demand.
"""

from aioresult.testing.conformance import StoreTests
from aioresult.testing.faults import FaultyStore

__all__ = ["FaultyStore", "StoreTests"]
