"""Counterparts: which layer of a model gave, before the passes, what a layer gives now.

Two layers belong together if their outputs have one name: passes keep the names of what they compute anew. Of factors
it is the last that gives the output, from an input that the first ones compute. What a layer was given as a bias behind
it (an Add of a constant) belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...ir import Model, Node, Value
from ...ir.analysis.linear import Linear, all_linear_layers, linear_of
from ...ir.analysis.shapes import Shapes, infer_shapes
from ..manager.bounds import LocalBound
from ..rewriting.layers import bias_of

Float64 = NDArray[np.float64]
Index = NDArray[np.int64]
KINDS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class Bias:
    """The bias of a layer, as what is added to each output, and where it is: in the layer (`add` is None) or behind."""

    numbers: Float64
    add: Node | None = None

    held: Value | None = None
    """The constant that is added behind."""

    @property
    def name(self) -> str:
        """The output of the Add."""
        return "" if self.add is None else self.add.outputs[0].name


@dataclass(frozen=True)
class Counterpart:
    """A layer before and now."""

    old: Linear
    new: Linear
    outputs: Index
    """Which columns of the old matrices are left."""
    old_bias: Float64
    bias: Bias | None
    """That of the new one; None if there is none that could take a change."""
    slope: Float64
    offset: Float64
    """abs(input i of the new one) <= slope[i] * max abs(input of the old one) + offset[i], [groups, k]."""

    @property
    def y(self) -> str:
        """The name of the output."""
        return self.old.node.outputs[0].name

    @property
    def biased(self) -> str:
        """The name of the output with the bias, as it was before."""
        add = None if self.bias is None or self.bias.add is None else self.bias.add
        return self.y if add is None else add.outputs[0].name

    def as_it_is(self) -> Counterpart:
        """The same, after other layers were rewritten."""
        new = linear_of(self.new.node)
        assert new is not None
        return replace(self, new=new)

    @property
    def weights(self) -> tuple[Float64, Float64]:
        """The matrices of before, of the outputs that are left, and those of now."""
        found = []
        for layer in (self.old, self.new):
            assert layer.weight.const is not None
            found.append(np.asarray(layer.matrices(layer.weight.const.numpy()), np.float64))
        return found[0][:, :, self.outputs], found[1]


@dataclass(frozen=True)
class _Shapes:
    """Those of the two models."""

    before: Shapes
    now: Shapes


def counterparts(
    model: Model, before: Model, changed: set[Value], bounds: Sequence[LocalBound]
) -> list[Counterpart | tuple[Linear, str]]:
    """Every layer that reads what has changed, with that of before, or why it has none."""
    shapes = _Shapes(infer_shapes(before), infer_shapes(model))
    olds = {(_graph(layer), layer.node.outputs[0].name): layer for layer in all_linear_layers(before)}
    found: list[Counterpart | tuple[Linear, str]] = []
    for layer in all_linear_layers(model):
        if layer.x not in changed or layer.op_type not in KINDS:
            continue
        behind = _behind(layer, shapes.now)
        old = olds.get((_graph(layer), layer.node.outputs[0].name))
        is_new = old is None and behind is not None
        if is_new and behind is not None:
            old = olds.get((_graph(layer), behind.name))
        reason = "no layer gave this output before" if old is None else _reason(old, layer)
        if old is None or reason:
            found.append((layer, reason))
        else:
            found.append(_counterpart(old, layer, behind if is_new else None, shapes, bounds))
    return found


def changed_values(model: Model, copies: Mapping[Value, Value]) -> set[Value]:
    """What may be other numbers than in the copy that was made before."""
    found: set[Value] = set()
    for graph in model.graph.walk_graphs():
        for node in graph.nodes:
            if not _is_same(node, copies) or any(value in found for value in node.inputs):
                found.update(node.outputs)
            for body in node.bodies:
                found.update(body.inputs)
    return found


def _is_same(node: Node, copies: Mapping[Value, Value]) -> bool:
    """Whether a node is that of the copy; one with bodies never is."""
    twin = copies[node.outputs[0]].producer if node.outputs[0] in copies else None
    if twin is None or twin.op_type != node.op_type or len(twin.inputs) != len(node.inputs) or node.bodies:
        return False
    pairs = list(zip(node.inputs, twin.inputs, strict=True))
    if any((a is None) != (b is None) or (a is not None and copies.get(a) is not b) for a, b in pairs):
        return False
    return all(a is None or b is None or a.const is b.const for a, b in pairs)


def _graph(layer: Linear) -> str:
    assert layer.node.graph is not None
    return layer.node.graph.label


def _reason(old: Linear, new: Linear) -> str:
    """Why a layer cannot be refitted to another; empty if it can."""
    if old.op_type not in KINDS or old.groups != new.groups or (old.op_type == "Conv") != (new.op_type == "Conv"):
        return "it was a layer of another kind before"
    if any(each.slot != 1 or float(each.node.attr("alpha", 1.0)) != 1 for each in (old, new)):
        return "its weight is on the left, or has a factor"
    return "its weight is read elsewhere too" if len(new.weight.uses) > 1 or new.weight.pinned else ""


def _counterpart(
    old: Linear, new: Linear, added: Bias | None, shapes: _Shapes, bounds: Sequence[LocalBound]
) -> Counterpart | tuple[Linear, str]:
    kept = _kept(old, shapes.before, bounds)
    if isinstance(kept, str):
        return new, kept
    columns = _columns(old, kept)
    if columns is None or len(columns) != new.n:
        return new, "it is not known which outputs are left"
    reach = _reach(new, old.x.name)
    if reach is None:
        return new, "what it reads is not computed by layers from what was read before"
    slope, offset = (_of_rows(new, each) for each in reach)
    bias, was = _biases(old, new, added, shapes)
    return Counterpart(old, new, columns, was if kept is None else was[kept], bias, slope, offset)


def _columns(old: Linear, kept: Index | None) -> Index | None:
    """The columns of each group's matrix that are left; None if it is not the same of each."""
    if kept is None:
        return np.arange(old.n)
    if len(kept) % old.groups:
        return None
    of_group = kept.reshape(old.groups, -1) - old.n * np.arange(old.groups)[:, None]
    return of_group[0] if (of_group == of_group[0]).all() else None


def _biases(old: Linear, new: Linear, added: Bias | None, shapes: _Shapes) -> tuple[Bias | None, Float64]:
    """The bias of the new layer, and what the old one had in its place."""
    zeros = np.zeros(old.groups * old.n)
    if added is not None:
        return added, zeros
    if new.op_type == "MatMul":
        now, before = _behind(new, shapes.now), _behind(old, shapes.before)
        is_kept = now is not None and before is not None and before.name == now.name
        return (now, before.numbers) if is_kept and before is not None else (None, zeros)
    own, was = bias_of(new), zeros if old.op_type == "MatMul" else bias_of(old)
    return (None, zeros) if own is None or was is None else (Bias(own), was)


def _behind(layer: Linear, shapes: Shapes) -> Bias | None:
    """The constant that the only reader of a product adds to every row of it."""
    y = layer.node.outputs[0]
    users = [use.user for use in y.uses]
    add = users[0] if len(users) == 1 else None
    if layer.op_type != "MatMul" or layer.slot != 1 or not isinstance(add, Node) or not add.is_op("Add"):
        return None
    held = next((value for value in add.inputs if value is not None and value is not y), None)
    if held is None or held.const is None or held.pinned or len(held.uses) > 1:
        return None
    array = held.const.numpy()
    if array.size != layer.n or array.shape[-1:] != (layer.n,) or array.ndim > len(shapes.shape(y) or ()):
        return None
    return Bias(array.astype(np.float64).reshape(-1), add, held)


def _kept(old: Linear, shapes: Shapes, bounds: Sequence[LocalBound]) -> Index | str | None:
    """Which outputs of a layer are left, by what was said of cuts."""
    y = old.node.outputs[0]
    found: Index | None = None
    for bound in bounds:
        if bound.form != "cut" or bound.kept is None or (bound.graph, bound.value) != (_graph(old), y.name):
            continue
        if old.op_type == "Conv":
            is_along = bound.axis == 1
        else:
            is_along = shapes.shape(y) is None or bound.axis == len(shapes.shape(y) or ()) - 1
        if not is_along:
            return "another axis of its output was cut"
        found = bound.kept if found is None else found[bound.kept]
    return found


def _reach(layer: Linear, x: str) -> tuple[Float64, Float64] | None:
    """How large each input channel is: a share of the greatest abs(x), and a rest; None if it is not known."""
    channels = layer.groups * layer.k // int(np.prod(layer.kernel, dtype=int))
    if layer.x.name == x:
        return np.ones(channels), np.zeros(channels)
    made = None if layer.x.producer is None else linear_of(layer.x.producer)
    if made is None or made.op_type not in KINDS or made.weight.const is None or made.node.attr("alpha", 1.0) != 1:
        return None
    before, bias = _reach(made, x), bias_of(made) if made.op_type != "MatMul" else np.zeros(made.n)
    if before is None or bias is None:
        return None
    rows = np.abs(made.matrices(made.weight.const.numpy()).astype(np.float64)).sum(axis=1).reshape(-1)
    return rows * before[0].max(initial=0), rows * before[1].max(initial=0) + np.abs(bias)


def _of_rows(layer: Linear, channels: Float64) -> Float64:
    """What is said of input channels, for each row of the matrices."""
    return np.repeat(channels, layer.groups * layer.k // len(channels)).reshape(layer.groups, layer.k)
