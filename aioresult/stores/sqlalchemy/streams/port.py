"""Streams in a kind of database: a row for each item, numbered by the producer that has locked the task's row.

The lock has three effects. Producers of one stream take turns, so numbers have no gaps. A task becomes final either
before an append, which is then refused, or after it. The next number follows from the highest one, so nothing else must
be stored. A task without a row gets a placeholder for the length of the transaction, which others do not see.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from aioresult.errors import AioResultError
from aioresult.settings import Settings
from aioresult.states import READY_STATES
from aioresult.stores.sqlalchemy.dialects.port import Dialect
from aioresult.stores.sqlalchemy.link import Link
from aioresult.stream import EMPTY, Append, Chunk, Cursor, stream_ended, stream_full

_LARGEST_ID: Final = 2**31 - 1

Known = Mapping[bytes, int]
"""The newest items, with their numbers."""


class Found(msgspec.Struct, frozen=True):
    """What was found when an append had the lock.

    Attributes:
        status: the task's state, if it has a row.
        oldest: the number of the oldest item.
        last: the number of the newest one.
    """

    status: str | None
    oldest: int
    last: int


class Stored(msgspec.Struct, frozen=True):
    """The outcome of an append.

    Attributes:
        outcome: the number of the last item, or why it was refused.
        items: the new items.
    """

    outcome: int | AioResultError
    items: Sequence[bytes] = ()


class StreamStatements(ABC):
    """The statements of one kind of database, for the tables that were found."""

    def __init__(self, dialect: Dialect, settings: Settings) -> None:
        self.layout = dialect.layout
        self.dates = dialect.dates
        self.facts = dialect.facts
        self.most = settings.stream_max_items
        self.trims = settings.stream_trim

    @abstractmethod
    async def append(self, link: Link, appends: Sequence[Append], date: datetime) -> Sequence[Stored]:
        """Implement ``Store.append_many``; ``appends`` are in the order of their ids."""

    @abstractmethod
    async def read(self, link: Link, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        """Do as ``Store.read_many``."""

    @abstractmethod
    async def delete(self, link: Link, ids: Sequence[str]) -> None:
        """Delete the streams of ``ids``."""

    @abstractmethod
    async def purge(self, link: Link, cutoff: datetime) -> int | None:
        """Delete up to ``PURGE_BATCH`` items of streams whose newest item is older than ``cutoff``, the oldest first.

        Returns:
            How many, or ``None`` if another process is purging.
        """

    def stored(self, append: Append, found: Found, known: Known) -> Stored:
        """Return the outcome of ``append``, whose ``known`` items exist already; the statements have the same rule."""
        items = missing(append, known)
        if found.status in READY_STATES:
            return Stored(stream_ended(append.id))
        kept = found.last - found.oldest + 1
        if self.most is not None and not self.trims and kept + len(items) > self.most:
            return Stored(stream_full(append.id, self.most))
        return Stored(known.get(append.items[-1], found.last + len(items)), items)

    def rows(self, append: Append, found: Found, known: Known) -> tuple[Stored, list[tuple[str, int, bytes]], int]:
        """Return the outcome of ``append``, the rows to insert, and the last number to delete; 0 for none."""
        stored, gone = self.stored(append, found, known), 0
        if self.most is not None and self.trims and isinstance(stored.outcome, int):
            gone = stored.outcome - self.most
        new = enumerate(stored.items, found.last + 1)
        return stored, [(append.id, seq, item) for seq, item in new if seq > gone], gone if gone >= found.oldest else 0


def missing(append: Append, known: Known) -> Sequence[bytes]:
    """Return the items of ``append`` that are not stored yet."""
    return [item for item in append.items if item not in known] if known else append.items


def placed_keys(count: int) -> list[int]:
    """Return keys for placeholders, which no sequence gives."""
    return [-key for key in random.sample(range(1, _LARGEST_ID), count)]


def chunk_of(oldest: Any, last: Any, items: Sequence[bytes]) -> Chunk:
    """Return a chunk from the values that a statement returned."""
    return EMPTY if last is None else Chunk(oldest, last, items)
