"""The task that a path names, and what is requested of it."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote

from aioresult.integrations.asgi.request import Scope

SNAPSHOT: Final = ""
EVENTS: Final = "events"
REVOKE: Final = "revoke"


class Route(NamedTuple):
    """A parsed path: ``what`` is ``SNAPSHOT``, ``EVENTS`` or ``REVOKE``."""

    task_id: str
    what: str


def route_of(scope: Scope) -> Route | None:
    """Return the route of a path, which is relative to where the application is mounted; ``None`` for other paths."""
    match _segments(scope):
        case [task_id] if task_id:
            return Route(task_id, SNAPSHOT)
        case [task_id, (("events" | "revoke") as what)] if task_id:
            return Route(task_id, what)
    return None


def _segments(scope: Scope) -> list[str]:
    """Return the parts of the path. An id may hold an escaped slash, which only the raw path shows as such."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    if not (root and (path == root or path.startswith(f"{root}/"))):
        root = ""  # some servers and frameworks give the path without it
    raw = (scope.get("raw_path") or b"").decode("latin-1").partition("?")[0]
    if unquote(raw) == path:
        return [unquote(part) for part in raw.split("/")[1 + root.count("/") :]]
    return path[len(root) :].split("/")[1:]
