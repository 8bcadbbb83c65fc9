"""Names in use, and fresh ones: unique in the whole tree of graphs under one root."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .graph import Graph


class Names:
    """Counts the names of values per root graph. Two sibling bodies may share a name, so it counts."""

    def __init__(self, roots: Iterable[Graph]) -> None:
        self._used = {root: Counter(v.name for graph in root.walk_graphs() for v in graph.values()) for root in roots}
        self._hints: dict[tuple[Graph, str], int] = {}

    def fresh(self, graph: Graph, hint: str) -> str:
        """A name that is taken nowhere under the root of `graph`: `hint`, else `hint_1`, `hint_2`, ...; the caller
        takes it."""
        root = graph.root
        used = self._used[root]
        name, number = hint, self._hints.get((root, hint), 0)
        while name in used and used[name] > 0:
            number += 1
            name = f"{hint}_{number}"
        self._hints[root, hint] = number
        return name

    def fresh_all(self, graph: Graph, hints: Sequence[str]) -> list[str]:
        """Fresh names that also differ from each other."""
        names = []
        for hint in hints:
            names.append(self.fresh(graph, hint))
            self.take(graph, names[-1])
        for name in names:
            self.release(graph, name)
        return names

    def taken(self, graph: Graph, name: str) -> bool:
        """Whether some value under the root of `graph` has the name."""
        return self._used[graph.root][name] > 0

    def take(self, graph: Graph, name: str) -> None:
        """Count one more value of that name."""
        self._used[graph.root][name] += 1

    def release(self, graph: Graph, name: str) -> None:
        """Count one value of that name less."""
        self._used[graph.root][name] -= 1

    def forget_hints(self) -> None:
        """Let fresh names be looked for from the start again, so that a rolled-back pass leaves no trace in them."""
        self._hints.clear()
