"""Revoking a task by storing REVOKED: this wakes all waiters and stops the ``TaskRunner`` that runs it."""

from __future__ import annotations

from typing import Final

from aioresult import states
from aioresult.abc import Store
from aioresult.errors import TaskRevokedError, Unsupported
from aioresult.record import UNFINISHED, Record, conditional, record_of

REVOKED_REASON: Final = "revoked"
"""The default reason, the same as that of Celery's workers."""


def revocation(task_id: str, reason: str | None, store: Store) -> Record:
    """Return the record that revokes a task, unless it is final.

    A store that keeps no leases knows only the rule ``states.replaces``: there the revocation also replaces a failure.
    """
    record = record_of(task_id, TaskRevokedError(reason or REVOKED_REASON), states.REVOKED)
    return conditional(record, UNFINISHED) if store.keeps_leases else record


def refuse_what_workers_do(what: str, terminate: bool, signal: str | None) -> None:
    """Refuse options that only a Celery worker could follow: to end a process.

    Raises:
        Unsupported: it was asked for.
    """
    if terminate or signal is not None:
        raise Unsupported(
            f"{what}: a result backend cannot end a worker's process (terminate=, signal=), since that goes through "
            f"the broker; use aioresult.integrations.celery.revoke for tasks of Celery; a TaskRunner needs neither"
        )
