"""Rules by which layers absorb the affine maps around them."""

from __future__ import annotations

from collections.abc import Iterator

from ....ir import Node
from ...rewriting.driver import QUIET
from ...rewriting.pattern import const, op, var
from ...rewriting.rule import Match, Rule, Types
from .absorbing import LayerPlan, absorb_after, absorb_before
from .affine import Affine, affine_of, keeps_shape, slots_of
from .kernels import is_part_of_a_kernel
from .layer import LAYERS, Layer, layer_of
from .plan import rule_parts
from .room import Room

_LAYER = op[LAYERS](var(), var(), ...).named("layer")
_SCALE_OR_SHIFT = op["Mul", "Div", "Add", "Sub"]


def absorb_rules(room: Room) -> Iterator[Rule]:
    """The rules for maps after a layer and before it."""
    build, guard = rule_parts(_after, room)
    yield Rule("scale-after-layer", _SCALE_OR_SHIFT(_LAYER, const()), build, guard, since=7)
    yield Rule("negate-after-layer", op.Sub(const(), _LAYER), build, guard, since=7)
    yield Rule("normalize-after-layer", op.BatchNormalization(_LAYER, ...), build, guard, since=7)
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
    root = match.root
    slot = root.inputs.index(layer.node.outputs[0])
    affine = affine_of(root, slot, layer.y)
    return affine if isinstance(affine, str) else absorb_after(layer, affine)


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
