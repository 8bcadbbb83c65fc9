"""What walks over the nodes of one model conclude, kept for the walks that follow.

Facts are found in several walks that differ in little: the branches that Ifs are assumed to take, or what was learned
of sizes. A node about whose inputs the same is known as before gets the same conclusion without its rules being run.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from typing import NamedTuple

from ..node import Node
from ..value import Value
from .dims import Atoms, Dim
from .elements import Elements, Shape


class Conclusion(NamedTuple):
    """What was once concluded for a node, from what was known of its inputs and whether onnx's inference counts."""

    trusted: bool
    read_shapes: list[Shape | None]
    read_elements: list[Elements | None]
    shapes: list[Shape | None]
    elements: Elements | None
    impossible: bool

    def holds(self, trusted: bool, shapes: list[Shape | None], elements: list[Elements | None]) -> bool:
        """Whether it is what the rules would conclude from this knowledge."""
        return trusted == self.trusted and shapes == self.read_shapes and all(map(is_, elements, self.read_elements))


class Memory:
    """Conclusions about nodes, elements of constants, and the unknown sizes that both are expressed in."""

    def __init__(self) -> None:
        self.atoms = Atoms()
        self.keeps = False
        """Whether conclusions are kept: only where more walks are to come it is worth the while."""
        self.nodes: dict[Node, Conclusion] = {}
        self.constants: dict[Value, Elements | None] = {}

    def learn(self, pairs: Iterable[tuple[Dim, Dim]]) -> bool:
        """Note that sizes are equal; whether that tells what an unknown is, so that all is to be concluded again."""
        learned = sum(a != b and self.atoms.learn(a, b) for a, b in pairs) > 0
        if learned:
            self.nodes.clear()
        return learned
