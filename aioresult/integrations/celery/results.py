"""Converting results of Celery to results of aioresult: single ones, groups, and their ancestors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery.result import EagerResult, ResultSet

from aioresult.backend import Backend
from aioresult.default import Result
from aioresult.groups import GroupResult
from aioresult.integrations.celery.backends import UnreadableBackend
from aioresult.integrations.celery.canvases import Canvas
from aioresult.integrations.celery.protocols import ResultNode
from aioresult.record import Record
from aioresult.result import AsyncResult


class Results:
    """Makes results in one backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._none_stored = isinstance(backend, UnreadableBackend)

    def single(self, task_id: str, ignored: bool | None) -> AsyncResult[Any]:
        """Return the result of one task."""
        return AsyncResult(task_id, self.backend, ignored=self._none_stored or ignored)

    def of(self, node: ResultNode, prepared: AsyncResult[Any] | None, canvas: Canvas | None) -> Result:
        """Return a result of Celery, with its ancestors and members, as one of aioresult.

        Args:
            node: the result of Celery.
            prepared: the result that was made before publishing; it is used for ``node`` if the ids agree.
            canvas: the task or canvas of ``node``, if that is known.
        """
        lineage = [node]
        while (ancestor := lineage[-1].parent) is not None:
            lineage.append(ancestor)
        result: Result | None = None
        for ancestor in reversed(lineage[1:]):
            result = self._with_parent(ancestor, result, None, None)
        return self._with_parent(node, result, prepared, canvas)

    def _with_parent(
        self, node: ResultNode, parent: Result | None, prepared: AsyncResult[Any] | None, canvas: Canvas | None
    ) -> Result:
        if isinstance(node, ResultSet):
            parts: Sequence[Canvas | None] = (canvas.members if canvas is not None else None) or ()
            if len(parts) != len(node.results):
                parts = [None] * len(node.results)
            results = [self.of(member, None, part) for member, part in zip(node.results, parts, strict=True)]
            return GroupResult(node.id, results, parent, backend=self.backend)
        ignored: bool | None = getattr(node, "ignored", None)  # whether it was published with ``ignore_result``
        if prepared is None or prepared.id != node.id:
            prepared = self.single(node.id, ignored if ignored or canvas is None else canvas.ignored)
        elif ignored:
            prepared.ignored = True
        prepared.parent = parent
        if isinstance(node, EagerResult):  # the task was run at once (``task_always_eager``)
            traceback = None if node.traceback is None else str(node.traceback)
            prepared._keep(Record(id=node.id, status=node.state, result=node.result, traceback=traceback))
        return prepared
