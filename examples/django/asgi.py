"""The ASGI application: Django, and beside it, below ``/results``, that of aioresult."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from aioresult.integrations.asgi.request import Receive, Scope, Send

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django.settings")
django = get_asgi_application()

from examples.django import results  # noqa: E402  (it needs the settings)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request, or the server's lifespan."""
    if scope["type"] == "lifespan":
        async with results.backend, results.runner:
            await results.app(scope, receive, send)
    elif scope["path"].startswith("/results/"):
        await results.app({**scope, "root_path": "/results"}, receive, send)
    else:
        await django(scope, receive, send)
