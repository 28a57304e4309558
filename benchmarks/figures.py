"""The figures of a run: each is one metric of one contestant, with a value for each repetition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from benchmarks.stats import Ratio, Summary, median, paired_ratio


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one contestant under one condition.

    Attributes:
        case: wake, crowd, ready, ...
        store: redis, postgresql, ...
        condition: for example ``"1,000 others waiting"``.
        contestant: who was measured.
        metric: for example ``"p50"``.
        unit: of the values.
        values: one for each repetition, in order.
        n: how many operations each value is made from.
        samples: summary of the single operations of all repetitions, where these were measured.
    """

    case: str
    store: str
    condition: str
    contestant: str
    metric: str
    unit: str
    values: list[float]
    n: int
    samples: Summary | None = None

    @property
    def median(self) -> float:
        return median(self.values)


class Results:
    """The figures of one run, in the order in which they were added."""

    def __init__(self, figures: Iterable[Figure] = ()) -> None:
        self.figures = list(figures)

    def __iter__(self) -> Iterator[Figure]:
        return iter(self.figures)

    def add(self, figure: Figure) -> None:
        self.figures.append(figure)

    def find(self, **wanted: str) -> Figure | None:
        """Return the figure with the attributes ``wanted``, if it has been measured."""
        for figure in self.figures:
            if all(getattr(figure, name) == value for name, value in wanted.items()):
                return figure
        return None

    def select(self, **wanted: str) -> list[Figure]:
        return [f for f in self.figures if all(getattr(f, name) == value for name, value in wanted.items())]

    def ratio(self, contestant: str, other: str, **wanted: str) -> Ratio | None:
        """Return the ratio of ``contestant`` to ``other``, or ``None`` if one of them was not measured."""
        mine, theirs = self.find(contestant=contestant, **wanted), self.find(contestant=other, **wanted)
        if mine is None or theirs is None:
            return None
        pairs = min(len(mine.values), len(theirs.values))
        return paired_ratio(mine.values[:pairs], theirs.values[:pairs])


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is written to the JSON file."""

    command: str
    mode: str
    started: str
    seconds: float
    machine: dict[str, str]
    versions: dict[str, str]
    sizes: dict[str, Any]
    left_out: dict[str, str]
    figures: list[Figure]
