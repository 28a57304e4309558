"""The states of a task, with Celery's names, and the rule which state may replace which."""

from __future__ import annotations

from typing import Final

PENDING: Final = "PENDING"
"""Nothing is known, since the id is new, forgotten or expired, or its task has not started. Never stored by workers."""
RECEIVED: Final = "RECEIVED"
STARTED: Final = "STARTED"
SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
REVOKED: Final = "REVOKED"
RETRY: Final = "RETRY"
REJECTED: Final = "REJECTED"
IGNORED: Final = "IGNORED"
ABORTED: Final = "ABORTED"
"""The task has been asked to end (``celery.contrib.abortable``), and is not final before it does; a custom state."""
PROGRESS: Final = "PROGRESS"
"""A custom state like any other; the name that progress reporting conventionally uses."""

READY_STATES: Final = frozenset({SUCCESS, FAILURE, REVOKED})
"""The final states. Custom states and IGNORED are not final, whatever else is stored with them."""
UNREADY_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES: Final = frozenset({RETRY, FAILURE, REVOKED})
"""States whose result is an exception."""
PROPAGATE_STATES: Final = frozenset({FAILURE, REVOKED})
"""States whose exception ``get()`` raises."""
ALL_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED})


def check_state(state: object) -> None:
    """Refuse a state that is not text, or a final one in other letters, by which nobody would be woken.

    Raises:
        TypeError, ValueError: see above.
    """
    if not isinstance(state, str):
        raise TypeError(
            f"a state is a name, not {type(state).__name__}; the order is store_result(task_id, result, 'SUCCESS')"
        )
    if state not in ALL_STATES and state.upper() in READY_STATES:
        raise ValueError(
            f"the state {state!r} is not final, so that waiters would not be woken; write {state.upper()!r}"
        )


def is_ready(status: str) -> bool:
    """Return whether ``status`` is final."""
    return status in READY_STATES


def replaces(new: str, old: str) -> bool:
    """Return whether a record in state ``new`` may replace a stored one in state ``old``.

    SUCCESS is never replaced; another final state only by a final one. Stores enforce this atomically.
    """
    return old != SUCCESS and (old not in READY_STATES or new in READY_STATES)
