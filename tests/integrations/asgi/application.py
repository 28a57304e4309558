"""An application for servers that are started as processes: ``AIORESULT_URL`` names the store."""

from __future__ import annotations

from aioresult import get_backend
from aioresult.integrations.asgi import PUBLIC, ResultsApp

app = ResultsApp(get_backend(), PUBLIC)
