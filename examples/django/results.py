"""Where results are, who runs tasks, and who may see them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings

from aioresult import Backend, TaskRunner
from aioresult.integrations.asgi import Request, ResultsApp

backend = Backend(settings.RESULTS_URL)
runner = TaskRunner(backend)
"""It runs tasks in this process, so that the example needs no other one. Celery's workers do as well."""


def started_by(session: Any) -> list[str]:
    """Return the ids of the tasks that the owner of the session has started."""
    found: list[str] = session.get("tasks", [])
    return found


def is_mine(request: Request, task_id: str) -> bool:
    """Say whether whoever asks has started the task."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    return task_id in started_by(store(request.cookies.get(settings.SESSION_COOKIE_NAME)))


app = ResultsApp(backend, authorize=is_mine, authorize_revoke=is_mine)
