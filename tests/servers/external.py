"""Servers that belong to the user, and not to the tests."""

from __future__ import annotations

import pytest


class ExternalServer:
    """A server of the user's own, named by an environment variable: tests use it but must not stop it."""

    owned = False
    running = True

    def __init__(self, variable: str, url: str) -> None:
        self.variable = variable
        self.url = url

    def start(self) -> None:
        """Do nothing: it is the user's business that it runs."""

    def close(self) -> None:
        """Do nothing, as well."""

    def stop(self) -> None:
        raise pytest.skip.Exception(f"this test stops its server, and {self.variable} names one that is not ours")

    kill = restart = stop
