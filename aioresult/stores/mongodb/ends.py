"""The end of a stream in MongoDB: a piece without items, which takes the number behind the last item.

In MongoDB a write cannot depend on a document of another collection, so an append cannot check the task's state in the
step that stores its items. But it fails if its number is taken. A reader of a final task's stream therefore stores the
end under the next number before it reports that nothing follows. A late append then finds the number taken, reads the
task's state again, and is refused. Items that were stored before the end belong to the stream, for every reader. This
also works if a Celery worker made the task final, which knows nothing of streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pymongo.errors import BulkWriteError, OperationFailure

from aioresult.stores.mongodb import clients
from aioresult.stores.mongodb.documents import Document, expiry
from aioresult.stores.mongodb.failures import DUPLICATE_KEY, is_refusal, throttled
from aioresult.stores.mongodb.pieces import Head
from aioresult.stores.mongodb.ranges import key


async def close(streams: clients.Collection, ids: Iterable[str], heads: Mapping[str, Head], ttl: float | None) -> bool:
    """Store the end of each of ``ids`` after its head; return whether the heads were still the last items.

    An account that may only read continues without this.

    Args:
        streams: the collection of the pieces.
        ids: the streams of final tasks.
        heads: their heads; a stream without items has none.
        ttl: how long the end of a stream without items is kept, in seconds.
    """
    ends = [_end(task_id, head, ttl) for task_id in ids if (head := heads.get(task_id)) is None or not head.ended]
    if not ends:
        return True
    try:
        await streams.insert_many(ends, ordered=False)
    except BulkWriteError as exc:
        if throttled(exc) is not None:
            raise
        return all(error.get("code") != DUPLICATE_KEY for error in exc.details.get("writeErrors", ()))
    except OperationFailure as exc:
        if not is_refusal(exc):
            raise
    return True


def _end(task_id: str, head: Head | None, ttl: float | None) -> Document:
    last, oldest = (head.last, head.oldest) if head is not None else (0, 1)
    end: Document = {"_id": key(task_id, last + 1), "last": last, "oldest": oldest, "items": [], "ended": True}
    if head is None:
        return end | expiry(ttl)
    return end if head.ends is None else {**end, "expires_at": head.ends}
