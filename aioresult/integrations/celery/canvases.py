"""A task or canvas before it is published: its name, its members, and whether its result will be stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.canvas import Signature as _Signature
from celery.canvas import _chain, _chord
from celery.canvas import group as _group

from aioresult.integrations.celery.protocols import Applicable


class Canvas:
    """A task, or a signature of any kind, with the options of the call that publishes it.

    Attributes:
        options: the options for publishing: the call's options win over those of a signature.
    """

    __slots__ = ("_task", "options")

    def __init__(self, task: Applicable, options: Mapping[str, Any]) -> None:
        self._task = task
        self.options = options
        if isinstance(task, _Signature):  # as in Celery, an option that is None does not count there
            self.options = {**task.options, **{key: value for key, value in options.items() if value is not None}}

    @property
    def name(self) -> str:
        """The name under which workers know the task, or the kind of the canvas."""
        task = self._task
        name = task.get("task") if isinstance(task, _Signature) else getattr(task, "name", None)
        return str(name or type(task).__name__)

    @property
    def is_group(self) -> bool:
        """Whether this is a group, whose id is not that of a task."""
        return isinstance(self._task, _group)

    @property
    def ignored(self) -> bool | None:
        """Whether the result will not be stored; ``None`` where only the settings decide, and for a group.

        The rule is Celery's when it publishes a task. The results that Celery returns for chains, chords and members of
        groups cannot be used for it: they are made before, and always say no.
        """
        last = self._last
        task: Any = last._task
        given: bool | None = last.options.get("ignore_result")
        if given is not None or last.is_group:
            return given
        try:
            declared: bool | None = getattr(task.type if isinstance(task, _Signature) else task, "ignore_result", None)
        except KeyError:  # a signature of a task that is known by name only
            return None
        return declared

    @property
    def members(self) -> list[Canvas] | None:
        """The members of the group that publishing this results in; ``None`` if it does not result in a group."""
        last = self._last
        return [Canvas(member, last.options) for member in last._task.tasks] if isinstance(last._task, _group) else None

    @property
    def _last(self) -> Canvas:
        """The part whose result is that of the whole: the last task of a chain, the body of a chord."""
        task = self._task
        if isinstance(task, _chain) and task.tasks:
            alone = len(task.tasks) == 1  # the options of a chain apply to its first task
            return Canvas(task.tasks[-1], self.options if alone else {})._last
        if isinstance(task, _chord):
            return Canvas(task.body, self.options)._last
        return self
