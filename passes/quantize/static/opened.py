"""Whether activations of a model can be quantized at all, and its opset raised for it."""

from __future__ import annotations

from ....ir import Model, Node
from ....ir.analysis.purity import Purity
from ...graph.opset import raise_opset
from ...manager.context import Context
from ..sites import scales_levels

PER_CHANNEL = 13
"""The opset from which on scales may run along an axis."""


def opened(ctx: Context, *opsets: int) -> bool:
    """Whether the model can be quantized: it is not yet, and is of the first of `opsets` to which it could be raised,
    or higher."""
    if is_quantized(ctx.model):
        ctx.remarks.missed("model", "it is quantized already: its activations are left as they are", rule="quantized")
        return False
    chance = _random_node(ctx.model)
    if chance is not None:
        why = f"{chance.op_type} {chance.label} draws random numbers: neither ranges nor errors can be told"
        ctx.remarks.missed("model", why, rule="random")
        return False
    problem = None
    for opset in opsets:
        problem = raise_opset(ctx, opset)
        if not problem:
            return True
    hint = f"convert the model to opset {opsets[-1]} first"
    ctx.remarks.missed("model", str(problem), rule="opset", suggestion=hint)
    return False


CONTRIB = ("DequantizeLinear", "MatMulIntegerToFloat", "MatMulNBits", "QGemm", "QuantizeLinear")
"""Operators of onnxruntime's own domain that read or make levels, but for those called `QLinear` and something."""


def is_quantized(model: Model) -> bool:
    """Whether values are decoded from integers anywhere."""
    return any(
        node.is_op("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
        or (node.domain == "com.microsoft" and node.op_type in CONTRIB)
        or node.op_type.startswith("QLinear")
        or any(scales_levels(node, slot) for slot in range(min(2, len(node.inputs))))
        for graph in model.walk_graphs()
        for node in graph.nodes
    )


def _random_node(model: Model) -> Node | None:
    """A node of the standard domain whose results differ from run to run."""
    purity = Purity(model)
    return next(
        (
            node
            for graph in model.walk_graphs()
            for node in graph.nodes
            if not node.domain and not node.bodies and not purity.is_pure(node)
        ),
        None,
    )
