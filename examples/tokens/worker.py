"""A producer with Celery: an ordinary worker, whose task emits words. Its broker is a folder, which needs no server."""

from __future__ import annotations

import time

from celery import Celery

from aioresult.integrations.celery import emit
from examples.fastapi_celery.folder import queue_in
from examples.tokens.text import SECONDS_PER_WORD, WORDS, data, store_url

app = Celery("tokens")
url = store_url()
app.conf.update(queue_in(data()), result_backend=url if url.startswith("redis") else f"db+{url}")


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def say() -> int:
    for word in WORDS:
        time.sleep(SECONDS_PER_WORD)
        emit(word)
    return len(WORDS)
