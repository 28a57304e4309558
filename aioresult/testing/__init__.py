"""Tests for stores, and a store for tests.

``StoreTests`` is the conformance suite that our own stores pass; it needs the extra ``testing``. ``FaultyStore`` is a
memory store that fails on demand.
"""

import contextlib
import pkgutil
from typing import TYPE_CHECKING, Any

from aioresult.errors import missing_driver

# Failed assertions show their values only in modules that pytest has rewritten; this registers them.
with contextlib.suppress(ModuleNotFoundError):
    import pytest

    pytest.register_assert_rewrite(*(f"{__name__}.{part.name}" for part in pkgutil.iter_modules(__path__)))

from aioresult.testing.faults import FaultyStore

if TYPE_CHECKING:
    from aioresult.testing.conformance import StoreTests

__all__ = ["FaultyStore", "StoreTests"]


def __getattr__(name: str) -> Any:
    """Import the suite only when it is used, because the store works without pytest."""
    if name != "StoreTests":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from aioresult.testing.conformance import StoreTests
    except ModuleNotFoundError as exc:
        raise missing_driver(str(exc.name), "the suite of tests", "testing") from exc
    return StoreTests
