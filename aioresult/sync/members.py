"""Blocking results as a collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aioresult.result import Result as AnyResult
    from aioresult.sync.result import AsyncResult, Result


class Members:
    """A mutable collection of results, each only once."""

    def __init__(self, results: Iterable[Result]) -> None:
        self.results: list[Result] = []
        self.update(results)

    def add(self, result: Result) -> None:
        """Add ``result``, unless it is in already."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Result | str) -> None:
        """Remove ``result``, which may be given by its id.

        Raises:
            KeyError: it is not a member.
        """
        if result not in self.results:
            raise KeyError(result)
        self.results.remove(result)  # type: ignore[arg-type]  # results are equal to their ids

    def discard(self, result: Result | str) -> None:
        """Remove ``result`` if it is a member."""
        if result in self.results:
            self.remove(result)

    def update(self, results: Iterable[Result]) -> None:
        """Add all of ``results``."""
        known = set(self.results)
        for result in results:
            if result not in known:
                known.add(result)
                self.results.append(result)

    def clear(self) -> None:
        """Remove all members."""
        self.results.clear()

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Result:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __contains__(self, result: object) -> bool:
        return result in self.results

    def leaves(self) -> list[AsyncResult[Any]]:
        """Return the single results of which this consists, those of nested groups included, in order."""
        return leaves_of(self.results)


def leaves_of(results: Iterable[Result]) -> list[AsyncResult[Any]]:
    """Return the single results in ``results`` and in the groups among them, in order."""
    return [leaf for result in results for leaf in result.leaves()]


def mirrored_of(results: Iterable[Result]) -> list[AnyResult]:
    """Return the asynchronous forms of ``results``."""
    return [result.mirrored for result in results]
