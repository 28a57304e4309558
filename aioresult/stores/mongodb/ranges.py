"""Filters of queries: ids in portions that fit, and the documents of one stream by their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bson.max_key import MaxKey
from bson.min_key import MinKey

from aioresult.stores.mongodb.documents import Document
from aioresult.stores.portions import portions

_CHUNK: Final = 2000
"""The most ids in one query."""
_CHUNK_CHARACTERS: Final = 2 * 2**20
"""The most characters of ids in one query, which must stay well below MongoDB's limit for a command."""

LAST: Final = MaxKey()
"""Greater than any number."""


def chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    """Divide ``ids`` into lists that fit a query each."""
    return portions(ids, _CHUNK_CHARACTERS, count=_CHUNK)


def key(task_id: str, first: int | MinKey | MaxKey) -> Document:
    """Return the ``_id`` of the document of a stream that begins with item ``first``.

    Its fields are compared in order, so the documents of one stream are neighbours in the index.
    """
    return {"task": task_id, "first": first}


def beginning_in(task_id: str, first: int | MinKey, last: int | MaxKey) -> Document:
    """Return the filter for the documents of a stream that begin with items ``first`` to ``last``."""
    return {"_id": {"$gte": key(task_id, first), "$lte": key(task_id, last)}}


def whole(task_id: str) -> Document:
    """Return the filter for all documents of a stream."""
    return beginning_in(task_id, MinKey(), LAST)


def any_of(filters: Sequence[Document]) -> Document:
    """Return the filter for documents that match at least one of ``filters``."""
    return filters[0] if len(filters) == 1 else {"$or": list(filters)}
