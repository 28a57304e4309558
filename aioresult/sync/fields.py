"""A task's record as attributes, with Celery's names; each asks the store, until the task is known to be final."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from aioresult.record import Record


class Fields(ABC):
    """The properties of ``celery.result.AsyncResult``."""

    __slots__ = ()

    @abstractmethod
    def fetch(self) -> Record:
        """Return the record as it is now."""

    @property
    def status(self) -> str:
        """The state's name."""
        return self.fetch().status

    @property
    def state(self) -> str:
        """The same as ``status``."""
        return self.fetch().status

    @property
    def result(self) -> Any:
        """The value, the exception, the ``meta`` of a state of your own, or ``None``."""
        return self.fetch().result

    @property
    def info(self) -> Any:
        """The same as ``result``."""
        return self.fetch().result

    @property
    def traceback(self) -> str | None:
        """The task's traceback as text."""
        return self.fetch().traceback

    @property
    def date_done(self) -> datetime | None:
        """When the task became final."""
        return self.fetch().date_done

    @property
    def name(self) -> str | None:
        """The task's name, where ``result_extended`` was on."""
        return self.fetch().name

    @property
    def args(self) -> Any:
        """The task's positional arguments, where ``result_extended`` was on."""
        return self.fetch().args

    @property
    def kwargs(self) -> Any:
        """The task's keyword arguments, where ``result_extended`` was on."""
        return self.fetch().kwargs

    @property
    def worker(self) -> str | None:
        """The worker's host name, where ``result_extended`` was on."""
        return self.fetch().worker

    @property
    def retries(self) -> int | None:
        """How often the task was retried, where ``result_extended`` was on."""
        return self.fetch().retries

    @property
    def queue(self) -> str | None:
        """The queue of the task, where ``result_extended`` was on."""
        return self.fetch().queue
