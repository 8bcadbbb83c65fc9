"""The local bounds that a pass reports, as numbers for a value of one run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..ir import Model, Node, Value
from ..passes.manager.bounds import LocalBound
from .scaled import Scaled
from .trace import Key, Record, Slot, slot_of

FORMS = ("linear", "table", "weight", "absolute", "product", "sum", "state", "cut", "step", "rounded", "scaled")


class Stated:
    """Bounds by the value that they speak of. UserError if one is of a form that is not known here."""

    def __init__(self, before: Model, record: Record, bounds: Sequence[LocalBound]) -> None:
        self._record = record
        self._bounds: defaultdict[tuple[str, str], list[LocalBound]] = defaultdict(list)
        for bound in bounds:
            if bound.form not in FORMS:
                known = ", ".join(FORMS)
                raise UserError(f"{bound.by}: nobody knows bounds of the form {bound.form!r} ({known}): give bound=")
            if bound.form != "scaled":
                self._bounds[bound.graph, bound.value].append(bound)
        self._nodes = {
            (graph.label, value.name): node
            for graph in before.walk_graphs()
            for node in graph.nodes
            for value in node.outputs
        }
        self._scaled: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for (label, name), old in Scaled(bounds).names.items():
            self._scaled[label, old].append(name)
            if (label, old) in self._nodes:
                self._nodes.setdefault((label, name), self._nodes[label, old])
        self.slots: set[Slot] = {
            slot_of(key) for key, label in record.labels.items() if (label, key[1]) in self._bounds
        }
        """Where bounds are stated."""

    def narrowed(self, key: Key, value: Any) -> Any:
        """What is left of a value that was cut."""
        for bound in self._bounds.get((self._record.labels[key], key[1]), ()):
            if bound.kept is not None and isinstance(value, np.ndarray) and value.ndim > bound.axis:
                value = np.take(value, bound.kept, axis=bound.axis)
        return value

    def bound(self, key: Key, value: Any) -> Any:
        """How far a value may move: None if nothing is stated, infinity if its inputs are not finite."""
        place = (self._record.labels[key], key[1])
        if place not in self._bounds:
            return None
        return sum(self._limit(bound, key, np.asarray(value)) for bound in self._bounds[place])

    def _limit(self, bound: LocalBound, key: Key, value: Any) -> Any:
        if bound.form == "table":
            return np.full(value.shape, bound.per_channel.max(initial=0))
        along = _along(bound, value.shape)
        match bound.form:
            case "linear":
                largest = self._largest(bound, key)
            case "product" | "sum":
                x, y = self._operands(key, 2), self._record.values[key]
                sizes = [_greatest(each) for each in x[: 2 if bound.form == "product" else 1]]
                terms = 1.0 if bound.form == "product" else np.size(x[0]) / max(1, np.size(y))
                largest = float(np.prod(sizes)) * terms
            case "step":
                return along + np.nan_to_num(_beyond(value, bound), nan=np.inf)
            case "rounded":
                read = np.asarray(self._record.find(key[0], bound.weight))
                largest = bound.half + float(_beyond(read, bound).max(initial=0))
            case "state":
                largest = self._state(key)
            case _:
                return along
        return along * largest if np.isfinite(largest) else np.full(value.shape, np.inf)

    def _largest(self, bound: LocalBound, key: Key) -> float:
        """max abs(x) over the operand that is not the weight: the one that varies, or the other than the named one; as
        it is or scaled, whichever is larger."""
        node = _in_front(self._nodes.get((bound.graph, bound.value)))
        operands = [value for value in (node.inputs[:2] if node is not None else ()) if value is not None]
        free = [value for value in operands if self._record.varies(key[0], value.name)]
        if len(free) != 1:
            free = [value for value in operands if not _reads(value, bound.weight)] or operands
        names = [name for value in free for name in (value.name, *self._scaled.get((bound.graph, value.name), ()))]
        return max((_greatest(self._record.find(key[0], name)) for name in names), default=np.inf)

    def _operands(self, key: Key, count: int) -> list[Any]:
        """The first operands of the node that computes a value."""
        node = self._nodes[self._record.labels[key], key[1]]
        return [self._record.find(key[0], value.name) for value in node.inputs[:count] if value is not None]

    def _state(self, key: Key) -> float:
        """What no state of a recurrent layer exceeds."""
        node = self._nodes[self._record.labels[key], key[1]]
        is_cell = node.op_type == "LSTM" and node.outputs[2:] and node.outputs[2].name == key[1]
        start = node.input(6 if is_cell else 5)
        first = 0.0 if start is None else _greatest(self._record.find(key[0], start.name))
        return first + len(self._operands(key, 1)[0]) if is_cell else max(1.0, first)


def _in_front(node: Node | None) -> Node | None:
    """The node whose result activations hand on: they make no error larger, so its bound may be stated behind them."""
    while node is not None and node.is_op("Relu", "Clip"):
        first = node.input(0)
        node = None if first is None else first.producer
    return node


def _beyond(value: Any, bound: LocalBound) -> Any:
    """How far numbers lie outside the range of a bound."""
    return np.maximum(0, np.maximum(bound.low - value, value - bound.high))


def _greatest(value: Any) -> float:
    """max abs(x); infinity if an element is NaN."""
    size = float(np.abs(np.asarray(value).astype(np.float64)).max(initial=0))
    return np.inf if np.isnan(size) else size


def _along(bound: LocalBound, shape: tuple[int, ...]) -> Any:
    if bound.per_channel.size == 1:
        return np.full(shape, bound.per_channel.reshape(()))
    ending = tuple(np.moveaxis(np.empty(shape, bool), bound.axis, -1).shape)
    return np.moveaxis(np.broadcast_to(bound.per_channel, ending), -1, bound.axis)


def _reads(value: Value, name: str) -> bool:
    """Whether a value is called so or computed from one that is."""
    todo, seen = [value], set[Node]()
    while todo:
        one = todo.pop()
        if one.name == name:
            return True
        node = one.producer
        if node is not None and node not in seen:
            seen.add(node)
            todo += [read for read in node.inputs if read is not None]
    return False
