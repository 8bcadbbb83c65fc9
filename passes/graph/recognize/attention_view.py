"""Attention as it is written in a graph: a view for passes that look at heads, and the pattern that finds it.

softmax(s q k^T + m) v over values of four dimensions (batch, heads, rows, head size), Vaswani et al., Attention Is All
You Need, 2017. The scale s may be on the scores, on q, on k^T, or on several of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ....ir import Graph, Node, Value
from ....ir.analysis.shapes import Shapes
from ...rewriting.pattern import Bound, Pattern, any_of, const, op, var
from ...rewriting.rule import Types
from .dims import Dims
from .numbers import number_of

HEADS_LAST = (0, 2, 1, 3)
"""How (batch, rows, heads, size) becomes (batch, heads, rows, size), and back."""


def _scaled(inner: Pattern, name: str) -> Pattern:
    """What may have a factor."""
    return any_of(op.Mul(inner, const(f"times_{name}")), op.Div(inner, const(f"over_{name}")), inner)


_SCORES = _scaled(op.MatMul(_scaled(var("q"), "q"), _scaled(op.Transpose(var("k")).named("k^T"), "k")), "s")
PATTERN = op.MatMul(op.Softmax(any_of(op.Add(_SCORES, var("mask")), _SCORES)).named("softmax"), var("v"))
_SCALES = ("q", "k", "s")


class Attention(NamedTuple):
    """One attention of a graph; values of four dimensions are (batch, heads, rows, head size)."""

    root: Node
    """The last MatMul: its output is the attention, of four dimensions."""
    softmax: Node
    nodes: tuple[Node, ...]
    """All nodes that it takes, the root first."""
    q: Value
    k: Value
    """Of four dimensions; the order of its dimensions is that before `k_perm`."""
    k_perm: tuple[int, ...]
    """How k is transposed for the product: (0, 1, 3, 2), or (0, 2, 3, 1) where heads stand behind rows."""
    v: Value
    mask: Value | None
    scale: float
    heads: int | None
    """How many heads, if that is known."""
    head_size: int | None


def find_attention(graph: Graph, shapes: Shapes) -> Iterator[Attention]:
    """Every attention of a graph (not of the bodies in it), in order."""
    dims = Dims(Types(shapes))
    for node in graph.nodes:
        if not node.is_op("MatMul"):
            continue
        views = (view_of(bound, dims) for bound in PATTERN.find_node(node, node, Bound()))
        found = next((view for view in views if view is not None), None)
        if found is not None:
            yield found


def view_of(bound: Bound, dims: Dims) -> Attention | None:
    """The attention that a match of `PATTERN` is; None if it is another thing."""
    values, softmax, transpose = bound.values, bound.nodes["softmax"], bound.nodes["k^T"]
    perm, scale = tuple(transpose.attr("perm") or ()), _scale_of(bound)
    ranks = [dims.rank(values[name]) for name in ("q", "v")]
    if scale is None or perm not in ((0, 1, 3, 2), (0, 2, 3, 1)) or ranks != [4, 4]:
        return None
    if softmax.attr("axis", -1 if _opset(softmax) >= 13 else 1) not in (-1, 3):
        return None
    q, v = values["q"], values["v"]
    heads, size = dims.dim(q, 1), dims.dim(q, 3)
    return Attention(
        bound.matched[0],
        softmax,
        bound.matched,
        q,
        values["k"],
        perm,
        v,
        values.get("mask"),
        scale,
        heads if isinstance(heads, int) else None,
        size if isinstance(size, int) else None,
    )


def _scale_of(bound: Bound) -> float | None:
    scale = 1.0
    for name in _SCALES:
        for hole, power in ((f"times_{name}", 1), (f"over_{name}", -1)):
            if hole in bound.values:
                number = number_of(bound.values[hole])
                tensor = bound.values[hole].const
                if number is None or number <= 0 or tensor is None or len(tensor.shape) > 4:
                    return None
                scale *= number**power
    return scale


def _opset(node: Node) -> int:
    return 13 if node.graph is None else node.graph.opset.get("", 13)
