"""What the tests of the MongoDB store share."""

from __future__ import annotations

from typing import Any, Final

import pymongo
import pymongo.collection
import pytest

from aioresult import Backend
from aioresult.testing.conformance import eventually

Document = dict[str, Any]
Collection = pymongo.collection.Collection[Document]

DRIVERS: Final = ["mongodb", "mongodb+motor"]
PATIENCE: Final = 60.0
"""Seconds after which something that should happen counts as not happening."""

# PyMongo leaves a socket or a transport to the garbage collector when a client is closed while one of its monitors is
# connecting (4.20: pool_shared._async_create_connection before it is connected, Pool.connect then).
LATE_SOCKETS: Final = pytest.mark.filterwarnings(
    "ignore:Exception ignored .*(<socket.socket|_SelectorTransport.__del__):pytest.PytestUnraisableExceptionWarning"
)
LATE_SOCKETS_OF_A_PROCESS: Final = (
    "-Wignore:unclosed <socket.socket:ResourceWarning",
    "-Wignore:unclosed transport <_SelectorSocketTransport:ResourceWarning",
)
"""The same as options of the interpreter."""


def by_driver(url: str, driver: str) -> str:
    """Return ``url`` for one of ``DRIVERS``."""
    return url.replace("mongodb", driver, 1)


async def until_watched(backend: Backend, number: int) -> None:
    """Wait until the feed of ``backend`` watches ``number`` ids and has had them looked at."""

    async def watched() -> bool:
        return backend.stats().watched >= number and not backend._runtime.hub.looking

    await eventually(watched)
