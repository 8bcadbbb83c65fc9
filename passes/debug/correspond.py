"""Correspondence: which values of two straight models stand for the same thing.

By name: a value with the name that it has in the first model, in the same body or, where only one value is called so in
each model, in any. Rewrites hand names on, so that this finds what they left and what they rebuilt.

By structure: a node of the same operator, attributes and corresponding inputs as one of the first model, whose
constants have the same types and shapes. With equal constants it computes the same, whatever it is called, and
overrules a name that says otherwise. With others it is the same node only if it has no name of the first model, and
only the nearest one whose constants are no further off than `NEAR`.

These are claims; `births` holds them against numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ...ir import Model, Node, Tensor, Value
from ...ir.straighten import Origin, Straight

NEAR = 0.5
"""The rel-l2 up to which constants may be other numbers of the same weight."""
_Signature = tuple[object, ...]


@dataclass(frozen=True)
class Pair:
    """A value of the first model and the one of the second that stands for it; computed, both of them.

    `same`: by nodes that compute the same of inputs that correspond.
    """

    before: Value
    after: Value
    by_name: bool
    same: bool


def correspond(first: Straight, second: Straight) -> list[Pair]:
    """The pairs of computed values, in the order of the second model; each value of it occurs at most once."""
    named = _by_name(first, second)
    partner = dict(_inputs(first, second))
    index: dict[_Signature, list[Node]] = {}
    for node in first.model.graph.nodes:
        signature = _signature(first.model, node, lambda value: value)
        if signature is not None:
            index.setdefault(signature, []).append(node)
    matched: set[Node] = set()
    pairs: list[Pair] = []
    for node in second.model.graph.nodes:
        if node.constant is not None:
            continue
        signature = _signature(second.model, node, partner.get)
        found = None if signature is None else _match(node, index.get(signature, ()), named, matched)
        if found is not None:
            matched.add(found)
        same = found is not None and _distance(found, node) == 0
        for slot, value in enumerate(node.outputs):
            other = named.get(value)
            if found is not None and slot < len(found.outputs) and found.outputs[slot].name:
                other = found.outputs[slot]
            if other is not None and value.name:
                partner[value] = other
                pairs.append(Pair(other, value, named.get(value) is other, same))
    return pairs


def _inputs(first: Straight, second: Straight) -> Iterable[tuple[Value, Value]]:
    there = {value.name: value for value in first.model.graph.inputs}
    return [(value, there[value.name]) for value in second.model.graph.inputs if value.name in there]


def _by_name(first: Straight, second: Straight) -> dict[Value, Value]:
    """The values of the second model that are called like one of the first."""
    known, others = _computed(first), _computed(second)
    exact = {origin: value for value, origin in known.items()}
    once, once_there = _unique(known), _unique(others)
    found: dict[Value, Value] = {}
    for value, origin in others.items():
        other = exact.get(origin)
        if other is None and origin.label in once_there:
            other = once.get(origin.label)
        if other is not None:
            found[value] = other
    return found


def _computed(straight: Straight) -> dict[Value, Origin]:
    nodes = straight.model.graph.nodes
    return {v: straight.name(v) for node in nodes if node.constant is None for v in node.outputs if v.name}


def _unique(values: Mapping[Value, Origin]) -> dict[str, Value]:
    """The values by name whose name occurs once, in whatever body."""
    counts = Counter(origin.label for origin in values.values())
    return {origin.label: value for value, origin in values.items() if counts[origin.label] == 1}


def _signature(model: Model, node: Node, stands_for: Callable[[Value], Value | None]) -> _Signature | None:
    """What nodes that match have in common; None for a node with bodies or of a function of the model, and for one with
    an input that stands for nothing."""
    key = (node.domain, node.op_type, node.overload)
    if node.bodies or node.constant is not None or key in model.functions:
        return None
    parts: list[object] = [*key, model.opset.get(node.domain)]
    for value in node.inputs:
        constant = None if value is None else value.const
        if value is None:
            parts.append(None)
        elif constant is not None:
            parts.append((constant.dtype, constant.shape))
        elif (other := stands_for(value)) is not None:
            parts.append(other)
        else:
            return None
    attributes = sorted(node.attributes.items())
    parts += [(name, attribute.proto.SerializeToString(deterministic=True)) for name, attribute in attributes]
    return tuple(parts)


def _match(node: Node, candidates: Iterable[Node], named: Mapping[Value, Value], matched: set[Node]) -> Node | None:
    """The node of the first model that computes the same, or did before its constants were changed."""
    own = {named[value].producer for value in node.outputs if value in named}
    found = [candidate for candidate in candidates if candidate in own or candidate not in matched]
    by_name = next((candidate for candidate in found if candidate in own), None)
    if by_name is not None:
        return by_name
    distances = [(_distance(candidate, node), candidate) for candidate in found]
    limit = 0.0 if own else NEAR
    nearest = min(distances, key=lambda pair: pair[0], default=None)
    return nearest[1] if nearest is not None and nearest[0] <= limit else None


def _distance(first: Node, second: Node) -> float:
    """How far the constants of two nodes of one signature are apart: the largest rel-l2."""
    tensors = zip(first.inputs, second.inputs, strict=True)
    pairs = [(a.const, b.const) for a, b in tensors if a is not None and b is not None]
    return max((_apart(a, b) for a, b in pairs if a is not None and b is not None), default=0.0)


def _apart(first: Tensor, second: Tensor) -> float:
    if first is second:
        return 0.0
    a, b = first.numpy(), second.numpy()
    if np.array_equal(a, b) or (a.dtype.kind != "O" and a.tobytes() == b.tobytes()):
        return 0.0
    if a.dtype.kind != "f":
        return np.inf
    size = float(np.linalg.norm(a.astype(np.float64)))
    return float(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64))) / size if size else np.inf
