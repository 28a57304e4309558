"""Quantiles, summaries and ratios of measured values; pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

CURVE: Final = tuple(index / 200 for index in range(201))
"""The quantiles that are kept of a distribution, for plots."""


def quantile(values: Sequence[float], q: float) -> float:
    """Return the ``q``-quantile (0 to 1) of ``values``, interpolated between neighbours."""
    if not values:
        raise ValueError("there is no quantile of nothing")
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    if low == position:
        return ordered[low]
    return ordered[low] + (ordered[low + 1] - ordered[low]) * (position - low)


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A summary of many samples of one quantity.

    Attributes:
        n: how many samples.
        curve: quantiles at ``CURVE``.
    """

    n: int
    mean: float
    p50: float
    p90: float
    p99: float
    low: float
    high: float
    curve: tuple[float, ...]


def summarise(values: Sequence[float]) -> Summary:
    return Summary(
        n=len(values),
        mean=sum(values) / len(values),
        p50=quantile(values, 0.5),
        p90=quantile(values, 0.9),
        p99=quantile(values, 0.99),
        low=min(values),
        high=max(values),
        curve=tuple(quantile(values, q) for q in CURVE),
    )


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio measured several times: its median, and the spread of the repetitions."""

    median: float
    low: float
    high: float


def milliseconds(began_at: Sequence[int], ended_at: Sequence[int]) -> list[float]:
    """Return how long each of several events took, from their times in nanoseconds."""
    return [(ended - began) / 1e6 for began, ended in zip(began_at, ended_at, strict=True)]


def spread(values: Sequence[float]) -> Ratio:
    """Return the median of the repetitions' ``values``, and their spread."""
    return Ratio(median=median(values), low=min(values), high=max(values))


def paired_ratio(values: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return ``values / others``, repetition by repetition, because a disturbance of the machine then affects both."""
    return spread([value / other if other else math.inf for value, other in zip(values, others, strict=True)])
