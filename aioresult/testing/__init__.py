"""For those who write stores, and for those who test what uses one.

``StoreTests`` is the conformance suite that our own stores pass; ``FaultyStore`` is a memory store that fails on
demand.
"""

from aioresult.testing.conformance import StoreTests
from aioresult.testing.faults import FaultyStore

__all__ = ["FaultyStore", "StoreTests"]
