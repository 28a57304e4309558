"""asyncio's verbs for many results, for blocking callers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar, overload

from aioresult import collecting, many
from aioresult.sync.portal import iterate, run
from aioresult.sync.result import AsyncResult
from aioresult.sync.tree import Result

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")


# Short names, so that an overload fits on a line or two, and can be compared with its neighbours.
R: TypeAlias = AsyncResult[T]
E: TypeAlias = BaseException
No: TypeAlias = Literal[False]
Yes: TypeAlias = Literal[True]


def leaves_of(results: Iterable[Result]) -> list[AsyncResult[Any]]:
    """Return the single results in ``results`` and in the groups among them, in order."""
    return [leaf for result in results for leaf in _checked(result).leaves()]


def _checked(given: Result) -> Result:
    """Return a blocking result as it is; refuse all else, such as a list of results or an asynchronous one."""
    kind = type(given)
    if not hasattr(kind, "mirrored"):
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} is no result of aioresult.sync: a list of results is passed as "
            f"gather(*results), and aioresult.sync.AsyncResult(task_id) makes the result of an id"
        )
    return given


@overload
def gather(r1: R[T1], /, *, return_exceptions: No = False) -> tuple[T1]: ...
@overload
def gather(r1: R[T1], /, *, return_exceptions: Yes) -> tuple[T1 | E]: ...
@overload
def gather(r1: R[T1], r2: R[T2], /, *, return_exceptions: No = False) -> tuple[T1, T2]: ...
@overload
def gather(r1: R[T1], r2: R[T2], /, *, return_exceptions: Yes) -> tuple[T1 | E, T2 | E]: ...
@overload
def gather(r1: R[T1], r2: R[T2], r3: R[T3], /, *, return_exceptions: No = False) -> tuple[T1, T2, T3]: ...
@overload
def gather(r1: R[T1], r2: R[T2], r3: R[T3], /, *, return_exceptions: Yes) -> tuple[T1 | E, T2 | E, T3 | E]: ...
@overload
def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], /, *, return_exceptions: No = False
) -> tuple[T1, T2, T3, T4]: ...
@overload
def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], /, *, return_exceptions: Yes
) -> tuple[T1 | E, T2 | E, T3 | E, T4 | E]: ...
@overload
def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], r5: R[T5], /, *, return_exceptions: No = False
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], r5: R[T5], /, *, return_exceptions: Yes
) -> tuple[T1 | E, T2 | E, T3 | E, T4 | E, T5 | E]: ...
@overload
def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], r5: R[T5], r6: R[T6], /, *, return_exceptions: No = False
) -> tuple[T1, T2, T3, T4, T5, T6]: ...
@overload
def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], r5: R[T5], r6: R[T6], /, *, return_exceptions: Yes
) -> tuple[T1 | E, T2 | E, T3 | E, T4 | E, T5 | E, T6 | E]: ...
@overload
def gather(*results: R[T], return_exceptions: No = False) -> list[T]: ...
@overload
def gather(*results: R[T], return_exceptions: Yes) -> list[T | E]: ...
@overload
def gather(*results: Result, return_exceptions: bool = False) -> Any: ...


def gather(*results: Result, return_exceptions: bool = False) -> Any:
    """Wait for all of ``results`` and return their values in order, as ``asyncio.gather`` does.

    The values have the types of the results, one by one for up to six.

    Raises:
        Exception: the first failure that becomes known, unless ``return_exceptions`` puts exceptions among the values.
    """
    return run(many.gather, *(_checked(result).mirrored for result in results), return_exceptions=return_exceptions)


def as_completed(results: Iterable[Result], *, timeout: float | None = None) -> Iterator[AsyncResult[Any]]:
    """Iterate ``results``, each once, as they become final; groups among them give their members.

    Raises:
        ResultTimeout: not all were final in time; those that were have been yielded.
    """
    members = {id(leaf.mirrored): leaf for leaf in leaves_of(results)}
    singles = [leaf.mirrored for leaf in members.values()]
    for arrived in iterate(lambda: collecting.as_completed(singles, timeout=timeout)):
        yield members[id(arrived)]


def wait(
    results: Iterable[Result], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[set[AsyncResult[Any]], set[AsyncResult[Any]]]:
    """Wait for ``results`` and return those that are final and those that are not, as ``asyncio.wait`` does.

    Args:
        results: results, or groups of results.
        timeout: seconds; when they have passed, what is known is returned.
        return_when: ``asyncio.FIRST_COMPLETED``, ``FIRST_EXCEPTION`` (failed or revoked) or ``ALL_COMPLETED``.
    """
    members = {id(leaf.mirrored): leaf for leaf in leaves_of(results)}
    singles = [leaf.mirrored for leaf in members.values()]
    done, pending = run(many.wait, singles, timeout=timeout, return_when=return_when)
    return {members[id(result)] for result in done}, {members[id(result)] for result in pending}
