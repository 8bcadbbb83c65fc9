"""Rules by which layers absorb the affine maps around them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ....ir import Node
from ...rewriting.driver import QUIET
from ...rewriting.pattern import Bound, Call, const, op, var
from ...rewriting.rule import Match, Rule, Types
from .absorbing import LayerPlan, absorb_after, absorb_before
from .affine import AFFINE, Affine, affine_of, keeps_shape, slots_of
from .kernels import is_part_of_a_kernel
from .layer import LAYERS, Layer, layer_of
from .plan import rule_parts
from .room import Room

_LAYER = op[LAYERS](var(), var(), ...).named("layer")
_SCALE_OR_SHIFT = op["Mul", "Div", "Add", "Sub"]


class _First(Call):
    """A map after a layer, and the maps after it: as many as nothing else reads, then fewer. The last is the root."""

    def find_node(self, node: Node, root: Node, bound: Bound) -> Iterator[Bound]:
        """Match the first map, and go on from there."""
        for found in super().find_node(node, root, bound):
            later = list(_maps_after(node))
            for count in range(len(later), -1, -1):
                yield found._replace(matched=(*later[:count][::-1], *found.matched))


def _maps_after(node: Node) -> Iterator[Node]:
    """The maps that alone read what the one before them computes."""
    while True:
        uses = node.outputs[0].uses
        reader = uses[0].user if len(uses) == 1 else None
        if not isinstance(reader, Node) or reader.graph is not node.graph or not reader.is_op(*AFFINE):
            return
        if sum(value is None or value.const is None for value in reader.inputs) != 1:
            return
        yield reader
        node = reader


def _first(pattern: Call) -> _First:
    return _First(pattern.op_types, pattern.inputs, pattern.rest)


def absorb_rules(room: Room) -> Iterator[Rule]:
    """The rules for maps after a layer and before it."""
    build, guard = rule_parts(_after, room)
    yield Rule("scale-after-layer", _first(_SCALE_OR_SHIFT(_LAYER, const())), build, guard, since=7)
    yield Rule("negate-after-layer", _first(op.Sub(const(), _LAYER)), build, guard, since=7)
    yield Rule("normalize-after-layer", _first(op.BatchNormalization(_LAYER, ...)), build, guard, since=7)
    build, guard = rule_parts(_before, room)
    for name, inner in (
        ("scale-before-layer", _SCALE_OR_SHIFT(var(), const())),
        ("negate-before-layer", op.Sub(const(), var())),
        ("normalize-before-layer", op.BatchNormalization(var(), ...)),
    ):
        pattern = op[LAYERS](inner.named("map"), var(), ...).named("layer")
        yield Rule(name, pattern, build, guard, since=7, exclusive=False)


def _after(match: Match) -> LayerPlan | str:
    layer = layer_of(match.node("layer"), match.types)
    if isinstance(layer, str):
        return layer
    maps: list[Affine] = []
    for inner, node in pairwise(match.bound.matched[::-1]):
        affine = affine_of(node, node.inputs.index(inner.outputs[0]), layer.y)
        if isinstance(affine, str):
            return affine
        maps.append(affine)
    return absorb_after(layer, maps)


def _before(match: Match) -> LayerPlan | str:
    inner = match.node("map")
    plan = plan_before(match.root, inner, match.types)
    if isinstance(plan, str):
        return plan
    if is_part_of_a_kernel(inner):
        return f"{QUIET} the runtime has a kernel for what it belongs to"
    for use in inner.outputs[0].uses:
        other = use.user
        if other is match.root:
            continue
        if not isinstance(other, Node) or use.slot or isinstance(plan_before(other, inner, match.types), str):
            return f"{QUIET} {inner.label} has other readers"
    return plan


def plan_before(node: Node, inner: Node, types: Types) -> LayerPlan | str:
    """What becomes of the layer `node` that reads what `inner` computes."""
    if not node.is_op(*LAYERS) or node.graph is not inner.graph or node.inputs.count(inner.outputs[0]) != 1:
        return QUIET
    layer = layer_of(node, types)
    if isinstance(layer, str):
        return layer
    affine = map_before(layer, inner, types)
    return affine if isinstance(affine, str) else absorb_before(layer, affine)


def map_before(layer: Layer, inner: Node, types: Types) -> Affine | str:
    """The map that `inner` applies to the input of a layer."""
    found: Affine | str = QUIET
    for slot in slots_of(inner):
        found = affine_of(inner, slot, layer.x)
        if not isinstance(found, str):
            widens = not keeps_shape(found, layer.x, types)
            return f"{QUIET} the constant may widen the input" if widens else found
    return found
