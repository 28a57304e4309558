"""Which tests need a newer Celery than the oldest that is served."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version

CELERY = Version(version("celery"))


def since_celery(wanted: str, what: str) -> pytest.MarkDecorator:
    """Return a mark for a test of ``what``, which Celery does only from version ``wanted`` on."""
    return pytest.mark.skipif(Version(wanted) > CELERY, reason=f"Celery {CELERY} does not know {what}")
