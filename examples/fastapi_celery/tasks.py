"""The Celery half: an ordinary application, whose worker knows nothing of aioresult.

With ``REDIS_URL`` in the environment, Redis is the broker and keeps the results. Without, both are files in ``DATA``,
so that the example needs no server at all.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from examples.fastapi_celery.folder import queue_in

app = Celery("reports")

if redis_url := os.environ.get("REDIS_URL"):
    app.conf.update(broker_url=redis_url, result_backend=redis_url)
else:
    data = Path(os.environ.get("DATA", "fastapi_celery_data")).absolute()
    app.conf.update(queue_in(data), result_backend=f"db+sqlite:///{data / 'results.db'}")


@app.task(bind=True)  # type: ignore[untyped-decorator]  # Celery has no types
def write_report(self: Any, pages: int, seconds_per_page: float = 0.1) -> dict[str, int]:
    """Write a report, telling how far it is after each page."""
    if pages < 1:
        raise ValueError("a report has at least one page")
    for page in range(1, pages + 1):
        time.sleep(seconds_per_page)
        self.update_state(state="PROGRESS", meta={"page": page, "pages": pages})
    return {"pages": pages, "words": 300 * pages}
