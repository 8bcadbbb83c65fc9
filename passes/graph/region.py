"""Constant regions: which nodes depend on constants alone, and which of them pay to be stored instead of computed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ...ir import Graph, Model, Node, Value
from ...ir.analysis.purity import Purity
from ...ir.proto import initializer_size, node_size
from ..manager.remarks import Remarks

EVALUATE_AT_MOST = 256 * 2**20
"""Bytes of the largest value that is evaluated at all, stored or not."""


class Bytes(NamedTuple):
    """What a value weighs: its data, and what they take in the file as a constant, at most."""

    data: int
    stored: int


Sizes = Mapping[Value, Bytes | str]
"""The weights of values, or why a value must not be evaluated."""


class Region:
    """The constant nodes of a model, in an order in which they can be evaluated."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    def choose(self, sizes: Sizes, room: int) -> Choice:
        """What to replace so that no connected part grows the file, or all together by at most `room` bytes."""
        obstacles = _obstacles(self.nodes, sizes)
        choice = Choice(
            {node: None for node in self.nodes if node not in obstacles},
            {v: s.stored for v, s in sizes.items() if isinstance(s, Bytes)},
        )
        for part in sorted(_connected(choice), key=choice.growth):
            room -= choice.shrink(part, room)
        return choice

    def explain(self, sizes: Sizes, remarks: Remarks) -> None:
        """Say why the constant nodes that are still there were not replaced."""
        nodes, obstacles = dict.fromkeys(self.nodes), _obstacles(self.nodes, sizes)
        for node in self.nodes:
            if node.graph is None or all(_enclosing(use.user, nodes) for v in node.outputs for use in v.uses):
                continue
            if node in obstacles:
                remarks.missed(node.label, f"constant, but {obstacles[node]}", rule="not-evaluated")
                continue
            known = [size for value in node.outputs if isinstance(size := sizes.get(value), Bytes)]
            data, stored = (sum(numbers) for numbers in zip(*known, strict=True))
            remarks.missed(
                node.label,
                f"constant, but its result of {data} bytes would make the file grow",
                rule="limit",
                suggestion=f"fold{{limit={stored}}} evaluates it",
            )


class Choice:
    """Nodes to be replaced. A value is stored if somebody outside the choice reads it."""

    def __init__(self, nodes: dict[Node, None], sizes: Mapping[Value, int]) -> None:
        self.nodes = nodes
        self.sizes = sizes
        self.grown = 0
        self._outside: dict[Value, int] = {}

    @property
    def values(self) -> list[Value]:
        """The values to be stored, in order."""
        return [value for node in self.nodes for value in node.outputs if self._is_stored(value)]

    def freed(self) -> list[Value]:
        """The constants that nobody outside the choice reads."""
        return [v for v in dict.fromkeys(_sources(self.nodes, self.nodes)) if self._is_freed(v)]

    def reached(self, source: Value) -> list[Value]:
        """The stored values that depend on `source`."""
        found: dict[Value, None] = {}
        seen: set[Node] = set()
        todo = [source]
        while todo:
            for use in todo.pop().uses:
                reader = _enclosing(use.user, self.nodes)
                if reader is not None and reader not in seen:
                    seen.add(reader)
                    found |= dict.fromkeys(v for v in reader.outputs if self._is_stored(v))
                    todo.extend(reader.outputs)
        return list(found)

    def growth(self, part: Iterable[Node]) -> int:
        """Bytes that the file grows by when `part` is replaced."""
        nodes = dict.fromkeys(part)
        stored = sum(self._stored_bytes(node) for node in nodes)
        freed = sum(_bytes_of(v) for v in dict.fromkeys(_sources(nodes, self.nodes)) if self._is_freed(v))
        return stored - freed - sum(map(node_size, nodes))

    def shrink(self, part: list[Node], room: int) -> int:
        """Drop the largest stored values of `part` until it fits into `room`; returns the bytes that it uses of it."""
        growth = self.growth(part)
        heap = [(-self._stored_bytes(node), index) for index, node in enumerate(part)]
        heapq.heapify(heap)
        index_of = {node: index for index, node in enumerate(part)}
        while growth > max(room, 0) and heap:
            size, index = heapq.heappop(heap)
            node = part[index]
            if node not in self.nodes or -size != self._stored_bytes(node) or size == 0:
                continue
            reads = list(dict.fromkeys(reads_of(node)))
            before = self._cost_of(reads)
            growth += size + node_size(node)
            self._drop(node)
            growth += self._cost_of(reads) - before
            for value in reads:
                if value.producer in self.nodes:
                    heapq.heappush(heap, (-self._stored_bytes(value.producer), index_of[value.producer]))
        used = max(growth, 0)
        self.grown += used
        return used

    def _cost_of(self, reads: list[Value]) -> int:
        """What the inputs of a node cost as they are: stored if computed here, freed if they are constants."""
        cost = 0
        for value in reads:
            if value.producer in self.nodes:
                cost += self.sizes[value] if self._is_stored(value) else 0
            elif self._is_freed(value):
                cost -= _bytes_of(value)
        return cost

    def _stored_bytes(self, node: Node) -> int:
        return sum(self.sizes[value] for value in node.outputs if self._is_stored(value))

    def _drop(self, node: Node) -> None:
        del self.nodes[node]
        for value in reads_of(node):
            if value in self._outside:
                self._outside[value] += 1

    def _outside_uses(self, value: Value) -> int:
        """How often others than the nodes of the choice read a value; counted once, then kept up to date."""
        if value not in self._outside:
            self._outside[value] = sum(_enclosing(use.user, self.nodes) is None for use in value.uses)
        return self._outside[value]

    def _is_stored(self, value: Value) -> bool:
        return self._outside_uses(value) > 0

    def _is_freed(self, value: Value) -> bool:
        return value.const is not None and self._outside_uses(value) == 0


def find_region(model: Model, selects: Callable[[Node], bool], blocked: set[Node]) -> Region:
    """All nodes that are constant, still used and selected, but those `blocked` and what depends on them."""
    purity = Purity(model)
    found: dict[Node, None] = {}

    def varies(value: Value | None) -> bool:
        return value is not None and value.const is None and value.producer not in found

    def visit(nodes: Iterable[Node]) -> None:
        for node in nodes:
            if (
                not any(map(varies, node.inputs))  # most read what varies: the rest need not be asked of them
                and node.constant is None
                and not (node.bodies and any(map(varies, reads_of(node))))
                and node not in blocked
                and selects(node)
                and any(not value.is_dead for value in node.outputs)
                and not any(value.pinned for value in node.outputs)
                and not _reads_attribute_of_function(node)
                and purity.is_pure(node)
            ):
                found[node] = None
                continue
            for body in node.bodies:
                visit(body.nodes)

    for root in model.roots():
        visit(root.nodes)
    return Region(list(found))


def closure(values: Iterable[Value], within: Iterable[Node]) -> list[Node]:
    """The nodes of `within` that `values` depend on, in the order of `within`."""
    order = list(within)
    allowed, needed = set(order), set[Node]()
    todo = [value.producer for value in values]
    while todo:
        node = todo.pop()
        if node is not None and node in allowed and node not in needed:
            needed.add(node)
            todo.extend(value.producer for value in reads_of(node))
    return [node for node in order if node in needed]


def sources_of(nodes: Iterable[Node]) -> list[Value]:
    """The values that nodes read and none of them computes."""
    inside = dict.fromkeys(nodes)
    return list(dict.fromkeys(_sources(inside, inside)))


def reads_of(node: Node) -> list[Value]:
    """Inputs of a node, and what its bodies capture from outside."""
    reads = [value for value in node.inputs if value is not None]
    if node.bodies:
        inside = dict.fromkeys(node.walk_bodies())
        for graph in inside:
            reads += [v for inner in graph.nodes for v in inner.inputs if v is not None and v.graph not in inside]
            reads += [v for v in graph.outputs if v.graph not in inside]
    return reads


def _reads_attribute_of_function(node: Node) -> bool:
    inner = (n for body in node.walk_bodies() for n in body.nodes)
    return any(attribute.ref for n in (node, *inner) for attribute in n.attributes.values())


def _sources(nodes: Iterable[Node], inside: Mapping[Node, None]) -> Iterable[Value]:
    return (value for node in nodes for value in reads_of(node) if value.producer not in inside)


def _obstacles(nodes: list[Node], sizes: Sizes) -> dict[Node, str]:
    """Why nodes cannot be evaluated: for themselves, or because of what they read."""
    found: dict[Node, str] = {}
    for node in nodes:
        own = (_obstacle(sizes[value]) for value in node.outputs if value.name)
        inherited = (found.get(value.producer, "") for value in reads_of(node) if value.producer is not None)
        reason = next(filter(None, (*own, *inherited)), "")
        if reason:
            found[node] = reason
    return found


def _obstacle(size: Bytes | str) -> str:
    if isinstance(size, str):
        return size
    return f"its result of {size.data} bytes is too large to evaluate" if size.data > EVALUATE_AT_MOST else ""


def _connected(choice: Choice) -> list[list[Node]]:
    """The nodes in parts that share neither a value nor a constant."""
    parent: dict[object, object] = {}

    def find(item: object) -> object:
        while parent.setdefault(item, item) is not item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for node in choice.nodes:
        for value in reads_of(node):
            parent[find(value.producer if value.producer in choice.nodes else value)] = find(node)
    parts: dict[object, list[Node]] = {}
    for node in choice.nodes:
        parts.setdefault(find(node), []).append(node)
    return list(parts.values())


def _enclosing(user: Node | Graph, nodes: Mapping[Node, None]) -> Node | None:
    """The node of `nodes` that a user of a value is or lies in; None if there is none."""
    place: Node | Graph | None = user
    while place is not None:
        if isinstance(place, Node):
            if place in nodes:
                return place
            place = place.graph
        else:
            place = place.parent
    return None


def _bytes_of(value: Value) -> int:
    """Bytes that the file loses with a constant."""
    if value.producer is not None:
        return node_size(value.producer)
    return 0 if value.const is None else initializer_size(value.const, value.name)
