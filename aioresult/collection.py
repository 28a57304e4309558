"""A collection of results, for the asynchronous and for the blocking API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

R = TypeVar("R")


class Collection(Generic[R]):
    """A mutable collection of results, each only once, in the order in which they were added."""

    def __init__(self, results: Iterable[R]) -> None:
        self.results: list[R] = []
        self.update(results)

    def add(self, result: R) -> None:
        """Add ``result``, unless it is a member already."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: R | str) -> None:
        """Remove ``result``, which may be given by its id.

        Raises:
            KeyError: it is not a member.
        """
        try:
            self.results.remove(result)  # type: ignore[arg-type]  # results are equal to their ids
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: R | str) -> None:
        """Remove ``result`` if it is a member."""
        if result in self.results:
            self.remove(result)

    def update(self, results: Iterable[R]) -> None:
        """Add all of ``results``."""
        known = set(self.results)
        for result in results:
            if result not in known:
                known.add(result)
                self.results.append(result)

    def clear(self) -> None:
        """Remove all members."""
        self.results.clear()

    def __iter__(self) -> Iterator[R]:
        return iter(self.results)

    def __getitem__(self, index: int) -> R:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __contains__(self, result: object) -> bool:
        return result in self.results
