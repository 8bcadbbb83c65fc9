"""Bias correction: what quantization moves every output channel of a layer by, on the mean, goes into its bias.

Of y = x W + b, quantization makes x~ W~ + b. E[x W - x~ W~] is added to b (Nagel et al. 2019), where x is what the
layer read before anything was quantized: so each layer answers for its own error alone. Were it to make up for those
before it, which are corrected too, it would do so twice; in a net of 60 layers that took the outputs further off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from ....ir import Model, Node, Value, clone_model
from ....ir.analysis.linear import Linear, linear_of
from ...calibrate.stream import Observer, observe
from ...graph.evaluate import run_nodes
from ...manager.bounds import LocalBound
from ...manager.context import Context
from .places import Place, add, cast_of, place_of
from .shift import Correction, RoundTrip, Shift

PURPOSE = "bias correction"


@dataclass(frozen=True)
class Layer:
    """A layer as it was, in the copy, and the place in the model where it stands now."""

    was: Linear
    place: Place


@dataclass(frozen=True)
class Original:
    """A copy of a model that is going to be quantized, and its layers."""

    model: Model
    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, ctx: Context) -> Original:
        """Take note of the model as it is now; no weight is copied."""
        copies: dict[Value, Value] = {}
        places = list(_places(ctx))
        model = clone_model(ctx.model, copies)
        return cls(model, tuple(Layer(_copied(copies, place.node), place) for place in places))


def _places(ctx: Context) -> Iterator[Place]:
    for graph in ctx.model.graph.walk_graphs():
        for node in graph.nodes:
            shape = ctx.shapes().shape(node.outputs[0]) if node.outputs else None
            place = place_of(node, None if shape is None else len(shape))
            if place is not None:
                yield place


def _copied(copies: Mapping[Value, Value], node: Node) -> Linear:
    producer = copies[node.outputs[0]].producer
    found = None if producer is None else linear_of(producer)
    assert found is not None
    return found


def correct_biases(
    ctx: Context,
    original: Original,
    *,
    by: str,
    rounded: Mapping[Node, RoundTrip] | None = None,
    but: Collection[Node] = (),
) -> int:
    """Correct the layers, `but` some, whose squared error on held-out samples falls by it; returns how many.

    Layers of which the node is gone, or the weight is what it was, stay. `rounded` says what becomes of the input of a
    layer, if that is quantized. Each correction states an `absolute` bound in the name of the pass `by`.
    """
    changed = [layer for layer in original.layers if layer.place.node not in but and _has_changed(ctx, layer)]
    shifts = {layer: Shift(layer.was, (rounded or {}).get(layer.place.node)) for layer in changed}
    observers: dict[Value, list[Observer]] = {}
    for layer, shift in shifts.items():
        observers.setdefault(layer.was.x, []).append(shift)
    if not observers:
        return 0
    blind = set(observe(replace(ctx, model=original.model), observers, purpose=PURPOSE))
    return sum(_correct(ctx, layer, shift, by) for layer, shift in shifts.items() if layer.was.x not in blind)


def _has_changed(ctx: Context, layer: Layer) -> bool:
    """Whether a layer stands where it stood, reads a weight that is decoded from constants, and takes a bias."""
    node = layer.place.node
    if node.graph is None or not ctx.selects(node):
        return False
    weight, bias = node.input(1), node.input(2)
    return weight is not None and bool(decoding(weight)) and (bias is None or bias.const is not None)


def decoding(value: Value) -> list[Node]:
    """The nodes that compute a value from constants alone, in order; none if it is a constant, or depends on more."""
    found: dict[Node, None] = {}

    def visit(here: Value) -> bool:
        node = here.producer
        if here.const is not None or node in found:
            return True
        if node is None or node.bodies or not all(visit(each) for each in node.inputs if each is not None):
            return False
        found[node] = None
        return True

    return list(found) if visit(value) else []


def _correct(ctx: Context, layer: Layer, shift: Shift, by: str) -> bool:
    place, label = layer.place, layer.place.node.label
    before, weight = layer.was.weight.const, place.node.input(1)
    assert before is not None
    assert weight is not None
    after = run_nodes(decoding(weight), [weight], {}, ctx)[weight]
    found = shift.correction(before.numpy(), after.numpy())
    if not tell(ctx, label, found):
        return False
    assert found is not None
    put(ctx, place, found, by)
    return True


def tell(ctx: Context, label: str, found: Correction | None) -> bool:
    """Whether a correction is to be made; a remark says what it saves, or why it is not."""
    if found is None:
        ctx.remarks.missed(label, "its bias stays: it takes two samples to judge a correction", rule="bias")
        return False
    if not found.pays:
        ctx.remarks.missed(label, "its bias stays: a correction saves little on held-out samples", rule="bias")
        return False
    share = f"{found.saved / found.error:.1%} of the squared error of its weight" if found.error > 0 else _OF_INPUT
    ctx.remarks.applied(label, f"bias corrected: takes away {share} on held-out samples", rule="bias")
    return True


_OF_INPUT = "what the rounding of its input makes on the mean (its weight is exact)"


def put(ctx: Context, place: Place, found: Correction, by: str) -> None:
    """Make a correction, and state its bound in the name of the pass `by`."""
    amounts = cast_of(place, found.amounts * place.factor)
    moved = add(ctx, place, amounts)
    graph = moved.graph
    assert graph is not None
    ctx.bounds.append(LocalBound(by, graph.label, moved.name, "absolute", place.axis, abs(amounts)))
