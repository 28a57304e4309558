"""Which node of a cluster holds which slot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from redis.crc import key_slot

from aioresult.errors import StoreUnavailable
from aioresult.stores.redis.errors import ServerError
from aioresult.stores.redis.wire import Reply

SLOTS: Final = 16384
Place = tuple[str, int]
"""Host and port of a node."""


class Topology:
    """The primaries and their slots, as one node saw them at one moment.

    Attributes:
        primaries: where they are; those without a slot are left out.
    """

    def __init__(self, ranges: Iterable[tuple[int, int, Place]], location: str) -> None:
        self._location = location
        self._owners: list[Place | None] = [None] * SLOTS
        for first, last, place in ranges:
            self._owners[first : last + 1] = [place] * (last + 1 - first)
        self.primaries: tuple[Place, ...] = tuple(sorted({place for place in self._owners if place is not None}))

    def owner(self, key: str) -> Place:
        """Return the primary that holds ``key``.

        Raises:
            StoreUnavailable: nobody does.
        """
        slot = key_slot(key.encode(), SLOTS)
        place = self._owners[slot]
        if place is None:
            raise StoreUnavailable(f"Redis at {self._location} is unavailable: no node holds slot {slot}")
        return place


def parse_slots(reply: Reply, asked: Place) -> list[tuple[int, int, Place]]:
    """Return the ranges in a reply to ``CLUSTER SLOTS``; a node that does not know its own name means the one asked."""
    ranges: list[tuple[int, int, Place]] = []
    if not isinstance(reply, list):
        return ranges
    for entry in reply:
        match entry:
            case [int(first), int(last), [(bytes() | None) as host, int(port), *_], *_]:
                name = host.decode() if host else ""
                ranges.append((first, last, (name if name not in ("", "?") else asked[0], port)))
    return ranges


def redirected(reply: ServerError, asked: Place) -> Place | None:
    """Return where a ``MOVED`` or ``ASK`` reply points to; without a host, it is that of the node asked."""
    place = str(reply).rpartition(" ")[2]
    host, _, port = place.rpartition(":")
    return (host or asked[0], int(port)) if port.isdecimal() else None


def without_repetition(places: Iterable[Place | None]) -> Sequence[Place]:
    """Return ``places`` in their order, each once."""
    return list(dict.fromkeys(place for place in places if place is not None))
