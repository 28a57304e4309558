"""The conformance suite of stores: ``aioresult.abc`` as tests.

Subclass ``StoreTests`` in a test module, set ``url`` (or override ``make_backend``), and run pytest with
pytest-asyncio::

    class TestMyStore(StoreTests):
        url = "mystore://localhost/test"

The tests use random ids and may run against a store that holds other results.
"""

from __future__ import annotations

from aioresult.testing.feeds import FeedTests
from aioresult.testing.fixtures import PATIENCE, Collected, eventually, fresh_id
from aioresult.testing.leases import LeaseTests
from aioresult.testing.storing import GroupTests, StoringTests
from aioresult.testing.streams import StreamTests
from aioresult.testing.waiting import WaitingTests

__all__ = ["PATIENCE", "Collected", "StoreTests", "eventually", "fresh_id"]


# pytest runs the tests of the last base first. The basic tests come last here, so that `-x` stops at the cause.
class StoreTests(LeaseTests, StreamTests, GroupTests, WaitingTests, FeedTests, StoringTests):
    """Tests of every promise of ``Store`` and ``Feed``, also as users of ``Backend`` see them."""
