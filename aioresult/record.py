"""What a store holds about one task, as an immutable value."""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from aioresult.errors import DecodeError, EncodeError, InvalidTaskId
from aioresult.states import EXCEPTION_STATES, FAILURE, PENDING, READY_STATES, RETRY, SUCCESS, replaces

UNDECODABLE: Final = "UNDECODABLE"
"""Status of the stand-in for a stored record that could not be read; never stored."""
FINISHED: Final = READY_STATES | {UNDECODABLE}
"""States that end the waiting."""

EXTENDED_FIELDS: Final = ("name", "args", "kwargs", "worker", "retries", "queue")
"""The fields that are stored only with ``result_extended``, in Celery's order."""

UNFINISHED: Final = "unfinished"
"""For ``Conditional.over``, a record that is written only where no final state is stored, even if itself final."""
ABSENT: Final = "absent"
"""For ``Conditional.over``, a record that is written only where nothing is stored, or PENDING."""
RUNNER: Final = "aioresult runner "
"""The ``traceback`` of a state that a ``TaskRunner`` stores before a task's end begins with this; the runner's id
follows. The traceback is the one text that every store and every table of Celery has, and that is not used before the
end."""

ResultTree = Sequence[Any]
"""A result with its ancestors in Celery's form, ``[[id, parent], members]``; ``members`` is ``None`` for a single
task."""


class Encoded(bytes):
    """A result that is already in its store's format, see ``Store.encode``."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One task's state at one moment. Field names and meanings are those of Celery's result records.

    Attributes:
        id: the task's id.
        status: the state's name; ``PENDING`` where nothing is stored.
        result: the return value; the exception instance for FAILURE, REVOKED and RETRY; the ``meta`` of custom states.
        traceback: the task's traceback as text.
        children: results of the tasks that this one started, in Celery's tuple form.
        date_done: when the task became final, timezone-aware; ``None`` before.
        group_id, parent_id: ids of the group and of the task that started this one.
        name, args, kwargs, worker, retries, queue: only where ``result_extended`` was on at the writer.
        stamps: stamped headers and their values, where there are any.
    """

    status: str = PENDING
    result: Any = None
    traceback: str | None = None
    children: list[Any] | None = None
    date_done: datetime | None = None
    group_id: str | None = None
    parent_id: str | None = None
    name: str | None = None
    args: Any = None
    kwargs: Any = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    stamps: dict[str, Any] | None = msgspec.field(default=None, name="stamped_headers")
    id: str = msgspec.field(name="task_id")

    @property
    def runner(self) -> str | None:
        """The id of the ``TaskRunner`` that runs this task; ``None`` where none does."""
        text = self.traceback
        return text[len(RUNNER) :] if text and not self.ready and text.startswith(RUNNER) else None

    def goes_over(self, old: Record | None) -> bool:
        """Return whether this record may replace ``old``; ``None`` means that nothing is stored."""
        return old is None or replaces(self.status, old.status)

    @property
    def state(self) -> str:
        """The same as ``status``."""
        return self.status

    @property
    def ready(self) -> bool:
        """Whether the state is final."""
        return self.status in READY_STATES

    @property
    def successful(self) -> bool:
        """Whether the state is SUCCESS."""
        return self.status == SUCCESS

    @property
    def failed(self) -> bool:
        """Whether the state is FAILURE (a revoked task has not failed)."""
        return self.status == FAILURE

    @property
    def error(self) -> DecodeError | None:
        """Why this record could not be read, or ``None`` for a readable one."""
        if self.status != UNDECODABLE:
            return None
        if isinstance(self.result, DecodeError):
            return self.result
        return DecodeError(f"the record of task {self.id!r} has the reserved status {UNDECODABLE!r}")

    @property
    def ended(self) -> bool:
        """Whether the waiting is over: the record is final, or cannot be read."""
        return self.status in FINISHED

    def appearance(self) -> tuple[Any, ...]:
        """Return what distinguishes one state from the next; of exceptions the text, since each read makes new ones."""
        result = repr(self.result) if isinstance(self.result, BaseException) else self.result
        return self.status, result, self.traceback, self.date_done, self.retries

    @classmethod
    def undecodable(cls, task_id: str, error: DecodeError) -> Record:
        """Return the stand-in for a stored record that cannot be read; callers that ask for it get ``error``."""
        return cls(id=task_id, status=UNDECODABLE, result=error)


class Conditional(Record, frozen=True, kw_only=True):
    """A record for compare-and-set: it is written only if what is stored meets its condition.

    Attributes:
        over: the condition: ``UNFINISHED``, ``ABSENT``, or ``RUNNER`` followed by a runner's id, for a record of that
            runner that is not final.
    """

    over: str

    def goes_over(self, old: Record | None) -> bool:
        if self.over == ABSENT:
            return old is None or old.status == PENDING
        if self.over == UNFINISHED:
            return old is None or not old.ready
        return old is not None and not old.ready and old.traceback == self.over


def conditional(record: Record, over: str) -> Conditional:
    """Return ``record`` with the condition ``over``."""
    return Conditional(**msgspec.structs.asdict(record), over=over)


def check_task_id(task_id: object, max_length: int | None = None) -> str:
    """Return ``task_id`` as the string under which it is stored; a ``UUID`` becomes its text.

    Raises:
        InvalidTaskId: it is not a string, empty, not representable in UTF-8, or longer than ``max_length`` characters.
    """
    if isinstance(task_id, UUID):
        return str(task_id)
    if not isinstance(task_id, str):
        hint = "; pass its id" if hasattr(task_id, "id") else ""
        raise InvalidTaskId(f"a task id is a non-empty string, not {type(task_id).__name__}: {task_id!r:.100}{hint}")
    if not task_id:
        raise InvalidTaskId("a task id is a non-empty string, but an empty one was given")
    if not task_id.isascii():
        try:
            task_id.encode()
        except UnicodeEncodeError as exc:
            raise InvalidTaskId(f"task id {task_id!r:.100} cannot be encoded as UTF-8") from exc
    if max_length is not None and len(task_id) > max_length:
        raise InvalidTaskId(
            f"task id {task_id[:40]!r}... has {len(task_id)} characters; this store holds at most {max_length}"
        )
    return task_id


def record_of(task_id: str, result: Any, state: str, traceback: str | None = None, **meta: Any) -> Record:
    """Return the record of a task that enters ``state`` now; by default the traceback is that of the exception.

    Raises:
        EncodeError: the state needs an exception, and ``result`` is not one.
    """
    if state in EXCEPTION_STATES:
        described = isinstance(result, dict) and "exc_type" in result
        if not (isinstance(result, BaseException) or described or (result is None and state == RETRY)):
            raise EncodeError(
                f"task {task_id!r}: the result of state {state} is the exception that led to it, not "
                f"{type(result).__name__}; pass an exception, or use a state of your own"
            )
        if traceback is None and isinstance(result, BaseException) and result.__traceback__ is not None:
            traceback = "".join(tracebacks.format_exception(result))
    date_done = datetime.now(UTC) if state in READY_STATES else None
    return Record(id=task_id, status=state, result=result, traceback=traceback, date_done=date_done, **meta)
