"""Results as nodes of a tree: each has ancestors, and the results of the tasks that it started."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TextIO, cast

from aioresult.default import Result as Mirrored
from aioresult.errors import ResultTimeout, missing_driver
from aioresult.record import ResultTree
from aioresult.sync.errors import as_celerys
from aioresult.sync.revoking import Revocable


class Result(Revocable):
    """The result of a task or of a group: the type of parents, children and members of groups.

    Its methods are those of ``aioresult.default.Result``.
    """

    __slots__ = ()

    id: str
    parent: Result | None

    @property
    @abstractmethod
    def children(self) -> list[Result] | None: ...

    @abstractmethod
    def ready(self) -> bool: ...

    @abstractmethod
    def successful(self) -> bool: ...

    @abstractmethod
    def failed(self) -> bool: ...

    @abstractmethod
    def get(self, timeout: float | None = None, propagate: bool = True) -> Any: ...

    @abstractmethod
    def forget(self) -> Any: ...

    def leaves(self) -> list[Any]:
        """Return the single results in this, in order; for one task, itself."""
        return [self]

    def as_tuple(self) -> ResultTree:
        """Return the ids of this, its ancestors and its members, in Celery's form."""
        mirrored: Mirrored = self.mirrored
        return mirrored.as_tuple()

    def as_list(self) -> list[str]:
        """Return the id and those of its ancestors."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else ())]

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @abstractmethod
    def __eq__(self, other: object) -> bool:
        """Results are equal to their ids, too."""


class Graph(Protocol):
    """Celery's ``DependencyGraph`` of results: each with those of the tasks that it started."""

    def __iter__(self) -> Iterator[Result]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, node: Result, /) -> Sequence[Result]: ...

    def topsort(self) -> list[Result]:
        """Return the results in an order in which each comes after those that it started."""

    def to_dot(self, fh: TextIO, formatter: object = None) -> None:
        """Write the graph in Graphviz's language."""


class Tree(Result):
    """The methods of ``celery.result.AsyncResult`` that lead from a result to those of the tasks that it started."""

    __slots__ = ()

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Result | None, Result]]:
        """Iterate this result and those of the tasks that it started, breadth first, each with its parent.

        Raises:
            ResultTimeout: one of them is not final when its children are needed; with ``intermediate`` it is skipped.
        """
        nodes: deque[tuple[Result | None, Result]] = deque([(None, self)])
        while nodes:
            above, node = nodes.popleft()
            yield above, node
            if node.ready():
                nodes.extend((node, child) for child in node.children or ())
            elif not intermediate:
                what = f"task {node.id!r} is not final, so that its children are not known"
                raise as_celerys(ResultTimeout(f"{what}; wait for it, or pass intermediate=True"), "IncompleteStream")

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Result, Any]]:
        """Iterate this result and those of the tasks that it started, each with its value; waits for each.

        Args:
            intermediate: continue if one is not final after its ``get``.
            options: arguments of ``get``.
        """
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**options)

    def get_leaf(self) -> Any:
        """Wait for this result and those of the tasks that it started, and return the value of the last one."""
        value = None
        for _, value in self.collect():  # noqa: B007  (only the last one is needed)
            pass
        return value

    @property
    def graph(self) -> Graph:
        """The same as ``build_graph()``."""
        return self.build_graph()

    def build_graph(self, intermediate: bool = False, formatter: object = None) -> Graph:
        """Return this result and those of the tasks that it started as Celery's graph, which can be drawn.

        Args:
            intermediate: skip results that are not final.
            formatter: Celery's ``GraphFormatter``, or your own.

        Raises:
            ResultTimeout: one of them is not final.
            MissingDriver: Celery is not installed.
        """
        try:
            from celery.utils.graph import DependencyGraph, GraphFormatter
        except ImportError as exc:
            instead = "take the edges from iterdeps(intermediate=True)"
            raise missing_driver("celery", "build_graph()", "celery", instead) from exc
        graph: Any = DependencyGraph(formatter=formatter or GraphFormatter(root=self.id, shape="oval"))
        for above, node in self.iterdeps(intermediate):
            graph.add_arc(node)
            if above is not None:
                graph.add_edge(above, node)
        return cast("Graph", graph)
