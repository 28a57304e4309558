"""Errors of this package in addition to ``aioresult.errors``."""

from aioresult.errors import AioResultError


class BrokerUnavailable(AioResultError, ConnectionError):
    """Raised when a task could not be handed to the broker within its timeout; names the broker, never a credential."""
