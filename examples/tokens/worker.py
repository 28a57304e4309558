"""A producer with Celery: an ordinary worker, whose task emits words. Its broker is a folder, which needs no server."""

from __future__ import annotations

import time

from celery import Celery

from aioresult.integrations.celery import emit
from examples.fastapi_celery import folder  # noqa: F401  (makes folder:// known)
from examples.tokens.text import SECONDS_PER_WORD, WORDS, data, store_url

app = Celery("tokens")
queue = data() / "queue"
queue.mkdir(exist_ok=True)
url = store_url()
app.conf.update(
    broker_url="folder://",
    broker_transport_options={
        "data_folder_in": str(queue),
        "data_folder_out": str(queue),
        "control_folder": str(data() / "control"),
        "polling_interval": 0.05,
    },
    result_backend=url if url.startswith("redis") else f"db+{url}",
)


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def say() -> int:
    for word in WORDS:
        time.sleep(SECONDS_PER_WORD)
        emit(word)
    return len(WORDS)
