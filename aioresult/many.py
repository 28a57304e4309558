"""asyncio's verbs for many results."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any, Literal, TypeAlias, TypeVar, overload

from aioresult.collecting import arrivals, final_records, leaves
from aioresult.default import Result
from aioresult.groups import values_of
from aioresult.result import AsyncResult
from aioresult.runtime import check_timeout, deadline_after

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
# Short names for the signatures below.
R: TypeAlias = AsyncResult[T]
Or: TypeAlias = T | BaseException


@overload
async def gather(r1: R[T1], /, *, return_exceptions: Literal[False] = False) -> tuple[T1]: ...
@overload
async def gather(r1: R[T1], /, *, return_exceptions: Literal[True]) -> tuple[Or[T1]]: ...
@overload
async def gather(r1: R[T1], r2: R[T2], /, *, return_exceptions: Literal[False] = False) -> tuple[T1, T2]: ...
@overload
async def gather(r1: R[T1], r2: R[T2], /, *, return_exceptions: Literal[True]) -> tuple[Or[T1], Or[T2]]: ...
@overload
async def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1, T2, T3]: ...
@overload
async def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], /, *, return_exceptions: Literal[True]
) -> tuple[Or[T1], Or[T2], Or[T3]]: ...
@overload
async def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1, T2, T3, T4]: ...
@overload
async def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], /, *, return_exceptions: Literal[True]
) -> tuple[Or[T1], Or[T2], Or[T3], Or[T4]]: ...
@overload
async def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], r5: R[T5], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1, T2, T3, T4, T5]: ...
@overload
async def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], r5: R[T5], /, *, return_exceptions: Literal[True]
) -> tuple[Or[T1], Or[T2], Or[T3], Or[T4], Or[T5]]: ...
@overload
async def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], r5: R[T5], r6: R[T6], /, *, return_exceptions: Literal[False] = False
) -> tuple[T1, T2, T3, T4, T5, T6]: ...
@overload
async def gather(
    r1: R[T1], r2: R[T2], r3: R[T3], r4: R[T4], r5: R[T5], r6: R[T6], /, *, return_exceptions: Literal[True]
) -> tuple[Or[T1], Or[T2], Or[T3], Or[T4], Or[T5], Or[T6]]: ...
@overload
async def gather(*results: R[T], return_exceptions: Literal[False] = False) -> list[T]: ...
@overload
async def gather(*results: R[T], return_exceptions: Literal[True]) -> list[Or[T]]: ...
@overload
async def gather(*results: Result, return_exceptions: bool = False) -> list[Any]: ...
async def gather(*results: Result, return_exceptions: bool = False) -> Any:
    """Wait for all of ``results`` and return their values in order, as ``asyncio.gather`` does.

    The values have the types of the results, one by one for up to six.

    Raises:
        Exception: the first failure that becomes known, unless ``return_exceptions`` puts exceptions among the values.
    """
    records = await final_records(leaves(results), None, stop_at_failure=not return_exceptions)
    return values_of(results, records, propagate=not return_exceptions)


async def wait(
    results: Iterable[Result], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[set[AsyncResult[Any]], set[AsyncResult[Any]]]:
    """Wait for ``results`` and return those that are final and those that are not, as ``asyncio.wait`` does.

    Args:
        results: results, or groups of results.
        timeout: seconds; when they have passed, what is known is returned.
        return_when: ``asyncio.FIRST_COMPLETED``, ``FIRST_EXCEPTION`` (failed or revoked) or ``ALL_COMPLETED``.
    """
    check_timeout(timeout)
    if return_when not in (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED):
        raise ValueError(
            f"return_when is one of asyncio's FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED, not {return_when!r}"
        )
    singles = leaves(results)
    done: set[AsyncResult[Any]] = set()
    async with aclosing(arrivals(singles, deadline_after(timeout))) as source:
        async for result, record in source:
            done.add(result)
            failed = not record.successful
            if return_when == asyncio.FIRST_COMPLETED or (failed and return_when == asyncio.FIRST_EXCEPTION):
                break
    done.update(result for result in singles if result.final is not None)
    return done, set(singles) - done
