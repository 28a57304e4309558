"""The common part of all cases: a store, contestants that take turns, and the figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from benchmarks.figures import Figure, Results
from benchmarks.plan import Plan
from benchmarks.process import ChildFailed, Entrant
from benchmarks.rivals import RivalEntrant
from benchmarks.servers import Host
from benchmarks.stats import quantile, summarise

PUSH: Final = "aioresult"
SLOW_POLL: Final = "aioresult polling every 0.5 s"
QUICK_POLL: Final = "aioresult polling every 0.05 s"
FLOOR: Final = "floor"


@dataclass
class Setting:
    """The environment of a case.

    Attributes:
        store: its name.
        host: the running store.
        plan: how much to do.
        results: collects the figures.
        rivals: other libraries that take part on this store.
        tell: shows the present step; called before each turn.
        left_out: contestants that do not take part, and why.
    """

    store: str
    host: Host
    plan: Plan
    results: Results
    rivals: list[RivalEntrant]
    tell: Callable[[str], None]
    left_out: dict[str, str] = field(default_factory=dict)

    def leave_out(self, name: str, failure: ChildFailed, *, wrong_too: bool = False) -> None:
        """Continue without a rival that failed; after a wrong value only with ``wrong_too``.

        Raises:
            ChildFailed: ``failure``, if a value was wrong, and not ``wrong_too``.
        """
        if "WrongValue" in str(failure) and not wrong_too:
            raise failure
        self.rivals = [rival for rival in self.rivals if rival.name != name]
        self.left_out[name] = f"failed on {self.store}: {str(failure).strip().splitlines()[-1]}"

    @property
    def wakes(self) -> int:
        """How many wake-ups there are in one turn of a contestant that does not poll."""
        return self.plan.wakes if self.store == "redis" else self.plan.slow_wakes

    # --- contestants ---

    def push(self) -> Entrant:
        return Entrant(PUSH, "aioresult", self.host.url)

    def floor(self) -> Entrant:
        return Entrant(FLOOR, f"{self.store}-floor", self.host.url)

    def producer(self, entrant: Entrant) -> Entrant:
        """Return the producer: on Redis the bare protocol for all contestants, so that only waiting is compared."""
        return self.floor() if self.store == "redis" else entrant.producer

    def polling(self) -> list[Entrant]:
        return [
            Entrant(name, "aioresult", self.host.url, push=False, poll_interval=interval, poll_min_interval=interval)
            for name, interval in ((SLOW_POLL, 0.5), (QUICK_POLL, 0.05))
        ]


def fresh_run() -> str:
    """Return the prefix of new ids."""
    return uuid4().hex[:20]


class Tally:
    """Values of one case and condition, by contestant and metric, collected over the repetitions."""

    def __init__(self, setting: Setting, case: str, condition: str) -> None:
        self._setting = setting
        self._case = case
        self._condition = condition
        self._values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._samples: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._about: dict[tuple[str, str], tuple[str, int]] = {}

    def add(self, contestant: str, metric: str, unit: str, value: float, n: int) -> None:
        """Take the value of one repetition."""
        key = (contestant, metric)
        self._values[key].append(value)
        self._about[key] = (unit, n)

    def add_latencies(self, contestant: str, samples: Sequence[float]) -> None:
        """Take the milliseconds of the single operations of one repetition."""
        self.add(contestant, "p50", "ms", quantile(samples, 0.5), len(samples))
        self.add(contestant, "p99", "ms", quantile(samples, 0.99), len(samples))
        self._samples[contestant, "p50"].extend(samples)

    def drop(self, contestant: str) -> None:
        """Forget everything about ``contestant``."""
        for key in [key for key in self._values if key[0] == contestant]:
            del self._values[key]

    def close(self) -> None:
        """Turn what was collected into figures."""
        for (contestant, metric), values in self._values.items():
            unit, n = self._about[contestant, metric]
            samples = self._samples.get((contestant, metric))
            self._setting.results.add(
                Figure(
                    case=self._case,
                    store=self._setting.store,
                    condition=self._condition,
                    contestant=contestant,
                    metric=metric,
                    unit=unit,
                    values=values,
                    n=n,
                    samples=None if samples is None else summarise(samples),
                )
            )
