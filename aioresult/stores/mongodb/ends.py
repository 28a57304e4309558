"""The end of a stream in MongoDB: a piece without items, which takes the number behind the last item.

MongoDB has no condition on a document of another collection, so that an append cannot ask for the task's state in the
step that stores its items. It does ask that nobody has its number. Whoever reads a stream of a final task stores its
end under the next number before saying that nothing follows. A late append then finds the number taken, looks at the
task again, and is refused. What was stored before the end belongs to the stream, for every reader. It does not matter
who made the task final: a Celery worker knows nothing of streams.
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
    """Store the end of each of ``ids`` behind what ``heads`` says; return whether that was still the last item.

    An account that may only read reads on without this.

    Args:
        streams: where the pieces are.
        ids: the streams of final tasks.
        heads: what there is of them.
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
