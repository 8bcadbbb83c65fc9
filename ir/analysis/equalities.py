"""Sizes that an operator forces to be equal: a run in which they differ fails.

Two inputs of a model may have dimensions of one name, and nobody checks that they agree; but where a MatMul, say,
stands between them, what is said of the runs that succeed may rest on it. Concat forces nothing: onnxruntime lets an
empty input have other sizes.
"""

from __future__ import annotations

from ..node import Node
from .dims import Dim, Poly, common_factor_removed, is_dimension, product, times
from .elements import Known, blank, items

Equal = list[tuple[Dim, Dim]]
FORCING = frozenset({"MatMul", "Gemm", "Conv", "Reshape"})
"""The operators that say something of sizes beyond those of their own results."""


def equalities(node: Node, known: Known) -> Equal:
    """Pairs of sizes that are equal if a node of the standard domain does not fail."""
    match node.op_type:
        case "MatMul":
            return _matmul(node, known)
        case "Gemm":
            return _gemm(node, known)
        case "Conv":
            return _conv(node, known)
        case "Reshape":
            return _reshape(node, known)
    return []


def positive(node: Node, known: Known) -> list[Dim]:
    """Sizes that are not 0 if a node of the standard domain does not fail: those beside one that a Reshape infers, and
    in its target those where the input has no size that a 0 could stand for."""
    if node.op_type != "Reshape":
        return []
    source, target, result = known.shape(node.input(0)), blank(node.input(1), known), known.shape(node.outputs[0])
    if source is None or target is None:
        return []
    sizes = items(target)
    found = [] if node.attr("allowzero", 0) else sizes[len(source) :]
    if sizes.count(-1) == 1 and result is not None:
        found += [size for place, size in enumerate(result) if place != sizes.index(-1)]
    return [size for size in found if size is not None and is_dimension(size)]


def _matmul(node: Node, known: Known) -> Equal:
    a, b = known.shape(node.input(0)), known.shape(node.input(1))
    return [(a[-1], b[-2] if len(b) > 1 else b[0])] if a and b else []


def _gemm(node: Node, known: Known) -> Equal:
    a, b = known.shape(node.input(0)), known.shape(node.input(1))
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return []
    return [(a[0 if node.attr("transA", 0) else 1], b[1 if node.attr("transB", 0) else 0])]


def _conv(node: Node, known: Known) -> Equal:
    shape, weight = known.shape(node.input(0)), known.shape(node.input(1))
    if shape is None or weight is None or len(shape) != len(weight):
        return []
    return [(shape[1], times(weight[1], node.attr("group", 1)))]


def _reshape(node: Node, known: Known) -> Equal:
    """As many elements as before. Where a size is inferred, the product of the others is not 0."""
    source, result = known.shape(node.input(0)), known.shape(node.outputs[0])
    target = blank(node.input(1), known)
    if source is None or result is None or target is None or target.size != len(result):
        return []
    sizes = items(target)
    if sizes.count(-1) != 1:
        return []
    others = product([size for place, size in enumerate(result) if place != sizes.index(-1)])
    a, b = product(source), product(result)
    if isinstance(others, Poly) and a != b:
        a, b = common_factor_removed(a, b, others)
    return [] if a == b else [(a, b)]
