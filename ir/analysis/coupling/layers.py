"""Rules for the operators that contract an axis: convolutions, products, recurrent layers; and normalizations."""

from __future__ import annotations

import numpy as np

from ...node import Node
from ...value import Value
from .axes import Facts


def conv(node: Node, facts: Facts) -> None:
    """Inputs and outputs of a convolution; those of grouped ones go together across the groups, place by place."""
    x, w, b = node.input(0), node.input(1), node.input(2)
    y = node.outputs[0]
    if x is None or w is None or w.const is None or facts.size(x, 1) is None or facts.size(y, 1) is None:
        return
    groups = node.attr("group", 1)
    is_transposed = node.op_type == "ConvTranspose"
    cin, cout = facts.size(x, 1), facts.size(y, 1)
    assert cin is not None
    assert cout is not None
    xa, ya = facts.at(x, 1), facts.at(y, 1)
    wi, wo = (facts.at(w, 0), facts.at(w, 1)) if is_transposed else (facts.at(w, 1), facts.at(w, 0))
    if b is not None:
        _must_pair(facts, b, 0, y, 1)
    if groups == 1:
        facts.tie(xa, wi)
        facts.tie(wo, ya)
        return
    # the axis of the weight that runs over all groups, and the one that runs inside a group
    whole, inner = (xa, ya) if is_transposed else (ya, xa)
    across = facts.at(w, 0)
    within = facts.at(w, 1)
    facts.tie(across, whole)
    per_inner, per_whole = facts.sizes[within], facts.sizes[across] // groups
    if per_inner == 1 and (per_whole == 1 or facts.sizes[inner] == groups):
        facts.tie(inner, whole, np.repeat(np.arange(groups), per_whole), np.arange(groups * per_whole))
        facts.fix("group", node, inner)
        return
    facts.tie(inner, within, np.arange(groups * per_inner), np.tile(np.arange(per_inner), groups))
    facts.tie(whole, whole, np.arange(groups * per_whole), np.tile(np.arange(per_whole), groups))


def gemm(node: Node, facts: Facts) -> None:
    """a b + c."""
    a, b, c = node.input(0), node.input(1), node.input(2)
    y = node.outputs[0]
    if a is None or b is None or facts.shape(a) is None or facts.shape(b) is None or facts.shape(y) is None:
        return
    ta, tb = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    _pair(facts, a, 0 if ta else 1, b, 1 if tb else 0)
    _pair(facts, b, 0 if tb else 1, y, 1)
    _pair(facts, a, 1 if ta else 0, y, 0)
    if c is not None:
        aligned(facts, [c], y)


def matmul(node: Node, facts: Facts) -> None:
    """Products of matrices, batches of them, with broadcasting."""
    a, b = node.input(0), node.input(1)
    y = node.outputs[0]
    sa, sb, sy = facts.shape(a), facts.shape(b), facts.shape(y)
    if a is None or b is None or not sa or not sb or sy is None:
        return
    _pair(facts, a, -1, b, -2 if len(sb) > 1 else 0)
    if len(sb) > 1:
        _pair(facts, b, -1, y, -1)
    if len(sa) > 1:
        _pair(facts, a, -2, y, -2 if len(sb) > 1 else -1)
    if len(sa) > 1 and len(sb) > 1:
        aligned(facts, [a, b], y, skip=2)


def _pair(facts: Facts, a: Value, i: int, b: Value, j: int) -> None:
    """Tie two axes that have the same size; leave both unsaid (so frozen) if that is not known."""
    if facts.size(a, i) is not None and facts.size(a, i) == facts.size(b, j):
        facts.tie(facts.at(a, i), facts.at(b, j))


def _must_pair(facts: Facts, a: Value, i: int, b: Value, j: int) -> None:
    """The same, where the second axis is spoken of already."""
    _pair(facts, a, i, b, j)
    if facts.size(b, j) is not None and facts.size(a, i) != facts.size(b, j):
        facts.freeze(facts.at(b, j), f"the size of {a.name} is not known")


def aligned(facts: Facts, inputs: list[Value], y: Value, skip: int = 0) -> None:
    """Tie the axes of `inputs` to those of `y` as broadcasting aligns them, from the last but `skip` on.

    Where an operand has an unknown size, nothing can be said of that axis of the others.
    """
    shapes, out = [facts.shape(value) for value in inputs], facts.shape(y)
    if out is None or any(shape is None for shape in shapes):
        return
    for back in range(1 + skip, len(out) + 1):
        size = out[-back]
        rows = [(v, s[-back]) for v, s in zip(inputs, shapes, strict=True) if s is not None and len(s) >= back]
        if size is None or any(dim is None for _, dim in rows):
            continue
        for value, dim in rows:
            if dim == size:
                facts.tie(facts.at(value, -back), facts.at(y, -back))
            else:
                facts.allow(facts.at(value, -back))


def channelwise(node: Node, facts: Facts) -> None:
    """Normalizations with one set of numbers a channel: BatchNormalization, InstanceNormalization, and PRelu's kind."""
    x, y = node.input(0), node.outputs[0]
    if x is None or facts.shape(y) is None or facts.shape(x) is None:
        return
    for axis in (0, 1):
        _pair(facts, x, axis, y, axis)
    for value in node.inputs[1:]:
        if value is not None:
            _must_pair(facts, value, 0, y, 1)


def last_axes(node: Node, facts: Facts) -> None:
    """LayerNormalization and RMSNormalization: the axes that they reduce stay, the others pass."""
    x, y = node.input(0), node.outputs[0]
    shape = facts.shape(x)
    if x is None or shape is None or (len(node.outputs) > 1 and any(v.name for v in node.outputs[1:])):
        return
    for axis in range(node.attr("axis", -1) % len(shape)):
        _pair(facts, x, axis, y, axis)


_ACTIVATIONS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


def recurrent(node: Node, facts: Facts) -> None:
    """LSTM, GRU and RNN: features of the input, and hidden units across gates, directions and states."""
    x, w, r = node.input(0), node.input(1), node.input(2)
    if x is None or w is None or r is None or w.const is None or r.const is None or node.attr("layout", 0):
        return
    if facts.size(x, 2) is None:
        return
    given = [name.decode().lower() for name in node.attr("activations", ())]
    usual = _ACTIVATIONS[node.op_type] * (len(given) // len(_ACTIVATIONS[node.op_type]))
    if given != usual:
        for axis in (facts.at(x, 2), facts.at(w, 2), facts.at(r, 2)):
            facts.freeze(axis, "the activations of a recurrent layer may have no bounds")
        return
    facts.tie(facts.at(x, 2), facts.at(w, 2))
    hidden = int(r.const.shape[2])
    gates = int(r.const.shape[1]) // hidden
    unit = facts.at(r, 2)
    own, all_gates = np.tile(np.arange(hidden), gates), np.arange(gates * hidden)
    facts.tie(unit, facts.at(w, 1), own, all_gates)
    facts.tie(unit, facts.at(r, 1), own, all_gates)
    facts.fix("hidden", node, unit)
    bias = node.input(3)
    if bias is not None:
        if bias.const is None:
            facts.freeze(unit, "the bias of a recurrent layer is computed")
        else:
            facts.tie(unit, facts.at(bias, 1), np.tile(own, 2), np.arange(2 * gates * hidden))
    states = [node.input(5), node.input(6), *node.outputs]
    peepholes = node.input(7)
    if peepholes is not None or (node.attributes.keys() & {"activation_alpha"}):
        facts.freeze(unit, "peepholes of a recurrent layer")
    for state in states:
        if state is None or not state.name:
            continue
        shape = facts.shape(state)
        rank = 4 if state is node.outputs[0] else 3
        if shape is None:
            if not state.is_dead:
                facts.freeze(unit, f"the rank of {state.name} is not known")
        elif len(shape) == rank and shape[-1] == hidden:
            facts.tie(unit, facts.at(state, -1))
        else:
            facts.freeze(unit, f"the size of {state.name} is not known")
