"""What a result needs of its backend, and the backend that this process uses where none is given."""

from __future__ import annotations

import os
import pkgutil
from typing import Any, Final, Protocol

from aioresult.errors import BackendNotConfigured
from aioresult.record import Record, ResultTree
from aioresult.runtime import Runtime
from aioresult.settings import Settings

_BACKEND: Final = "aioresult.backend:Backend"
"""Made for the URL in the environment. Named and not imported, because a backend makes results, and imports them."""


class ResultBackend(Protocol):
    """A place to wait at, and a maker of further results. ``aioresult.Backend`` is one."""

    @property
    def settings(self) -> Settings:
        """The checked settings."""

    @property
    def runtime(self) -> Runtime:
        """What belongs to the running event loop."""

    def result_from_tree(self, tree: ResultTree) -> Any:
        """Return the result or group that Celery's tuple form describes."""

    async def fetch(self, task_id: str) -> Record:
        """Return the record of ``task_id`` as it is now."""

    async def forget(self, task_id: str) -> bool:
        """Delete the result of ``task_id``."""


_default: Any = None


def set_default(backend: ResultBackend) -> None:
    """Make ``backend`` the one that is used where none is given."""
    global _default  # noqa: PLW0603  (the process-wide default is this module's purpose)
    _default = backend


def get_default() -> Any:
    """Return the default backend; where none was set, that of the environment variable ``AIORESULT_URL``.

    Raises:
        BackendNotConfigured: there is neither.
    """
    if _default is None:
        url = os.environ.get("AIORESULT_URL")
        if not url:
            raise BackendNotConfigured(
                "no result backend is configured: call aioresult.configure('redis://...'), pass backend=..., "
                "or set AIORESULT_URL in the environment"
            )
        set_default(pkgutil.resolve_name(_BACKEND)(url))
    return _default
