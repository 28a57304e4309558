"""The lane for everything that changes a store: writes, appends and deletions, in the order of the calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aioresult.errors import AioResultError, EncodeError, InvalidTaskId, ResultTooLarge, StoreUnavailable, StreamFull
from aioresult.lanes import Lane, Submitted, answer, fail
from aioresult.partly import PartlyUnavailable
from aioresult.record import Record
from aioresult.stream import Append

Change = Record | Append | str
"""A record to write, items to append, or the id of a record to delete."""

Make = Callable[[list[Submitted[Any, Any]]], Awaitable[None]]
"""Makes changes of one kind, and gives each caller its outcome."""

_MAX_CHANGES: Final = 2000
"""The most changes in one batch: a bigger batch gains nothing, and delays the next one."""
_OF_ONE: Final = (EncodeError, InvalidTaskId)
"""Errors of a batch that concern one of its changes: a value or an id that the store does not take."""


class ChangeLane(Lane[Change, Any]):
    """Writes, appends and deletions. They share a lane, so that those of one id are done in their order."""

    def _take(self) -> list[Submitted[Change, Any]]:
        """Take changes of distinct ids. A second change of an id waits for the next batch, to keep their order.

        Only consecutive appends to one stream are taken together, unless they are repeated: the number of an item that
        was stored before cannot be computed from the numbers of the others.
        """
        ids: dict[str, bool] = {}  # the value: whether another append to this id may be taken as well
        batch: list[Submitted[Change, Any]] = []
        rest: list[Submitted[Change, Any]] = []
        for submitted in self._pending:
            change = submitted[0]
            task_id = change if isinstance(change, str) else change.id
            appends = type(change) is Append and not change.repeated
            before = ids.get(task_id)
            if (before is None or (before and appends)) and len(batch) < _MAX_CHANGES:
                batch.append(submitted)
                ids[task_id] = appends
            else:
                rest.append(submitted)
                ids[task_id] = False
        self._pending = rest
        return batch

    async def _make(self, batch: list[Submitted[Change, Any]]) -> None:
        if appends := [(change, future) for change, future in batch if type(change) is Append]:
            await self._part(appends, self._append, whole=len(appends) == len(batch))
        if writes := [(change, future) for change, future in batch if isinstance(change, Record)]:
            await self._part(writes, self._write, whole=len(writes) == len(batch))
        if deletions := [(change, future) for change, future in batch if isinstance(change, str)]:
            await self._part(deletions, self._delete, whole=len(deletions) == len(batch))

    @staticmethod
    async def _part(part: list[Submitted[Any, Any]], make: Make, *, whole: bool) -> None:
        """Make a part of a batch. If it is refused, such as appends without a right, the other parts are still made."""
        try:
            await make(part)
        except StoreUnavailable:
            raise
        except Exception as exc:
            if whole:
                raise
            fail(part, exc)

    async def _append(self, batch: list[Submitted[Append, Any]]) -> None:
        """Append the items of each stream in one call, and give each caller the number of its own last item."""
        by_id: defaultdict[str, list[Submitted[Append, Any]]] = defaultdict(list)
        for submitted in batch:
            by_id[submitted[0].id].append(submitted)
        calls = [_joined(task_id, [change for change, _ in own]) for task_id, own in by_id.items()]
        try:
            outcomes = await self._store.append_many(calls)
        except BaseException as exc:
            for change, _ in batch:  # they may have been stored: a caller that tries again must say so
                change.repeated = True
            if len(by_id) == 1 or not isinstance(exc, _OF_ONE):
                raise
            await self._apart(batch, self._append)
            return
        for own, outcome in zip(by_id.values(), outcomes, strict=True):
            if isinstance(outcome, StreamFull | ResultTooLarge) and len(own) > 1:
                for submitted in own:  # there may be room for the first ones, and each alone may be small enough
                    await self._append([submitted])
            else:
                _answer_appends(own, outcome)

    async def _delete(self, batch: list[Submitted[str, Any]]) -> None:
        try:
            await self._store.delete_many([task_id for task_id, _ in batch])
        except PartlyUnavailable as exc:
            fail([submitted for submitted in batch if submitted[0] not in exc.outcomes], exc)
        except _OF_ONE:
            if len(batch) == 1:
                raise
            await self._apart(batch, self._delete)
            return
        answer(batch, [True] * len(batch))

    @staticmethod
    async def _apart(batch: Sequence[Submitted[Any, Any]], make: Make) -> None:
        """Make the changes one by one, because one is at fault: the others must be made nevertheless."""
        for submitted in batch:
            try:
                await make([submitted])
            except _OF_ONE as exc:
                fail([submitted], exc)

    async def _write(self, batch: list[Submitted[Record, Any]]) -> None:
        written: Sequence[bool]
        try:
            written = await self._store.put_many([record for record, _ in batch])
        except PartlyUnavailable as exc:
            fail([submitted for submitted in batch if submitted[0].id not in exc.outcomes], exc)
            written = [bool(exc.outcomes.get(record.id)) for record, _ in batch]
        except StoreUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001  (given to the caller that it concerns)
            if len(batch) == 1:
                fail(batch, exc)
            else:
                await self._apart(batch, self._write)
            return
        answer(batch, written)


def _answer_appends(batch: Sequence[Submitted[Append, Any]], outcome: int | AioResultError) -> None:
    """Give each caller of one stream's batch the number of its last item, or an error."""
    if isinstance(outcome, AioResultError):
        for append, _ in batch:
            append.repeated = append.repeated or isinstance(outcome, StoreUnavailable)
        fail(batch, outcome)
        return
    for append, future in reversed(batch):
        if not future.done():
            future.set_result(outcome)
        outcome -= len(append.items)


def _joined(task_id: str, appends: Sequence[Append]) -> Append:
    if len(appends) == 1:
        return appends[0]
    items = [item for append in appends for item in append.items]
    return Append(task_id, items, repeated=any(append.repeated for append in appends))
