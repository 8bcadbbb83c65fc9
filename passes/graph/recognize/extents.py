"""What operators tell of the sizes of values where shape inference knows nothing of them.

Inference loses the rank at a Reshape to a computed shape, and with it all that follows. But a model that runs adds a
bias of 120 elements to something whose last dimension becomes 120, whatever came in.
"""

from __future__ import annotations

from ....ir import Value
from ...rewriting.rule import Match, Types

UNARY = frozenset(
    {"Abs", "Cast", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log"}
    | {"LayerNormalization", "Mish", "Neg", "Reciprocal", "Relu", "RMSNormalization", "Sigmoid", "Softmax", "Softplus"}
    | {"Sqrt", "Swish", "Tanh"}
)
"""Operators whose first output has the shape of their first input."""
BROADCAST = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Where"})
_DEPTH = 40
"""Operators looked back through."""


def last_dim(types: Types, value: Value | None, depth: int = _DEPTH) -> int | None:
    """The size of the last dimension of a value of rank 1 or more, if it is known."""
    shape = None if value is None else types.shape(value)
    if shape and isinstance(shape[-1], int):
        return shape[-1]
    node = None if value is None else value.producer
    if node is None or node.domain or depth == 0 or node.outputs[0] is not value or shape == ():
        return None
    if node.op_type in UNARY:
        return last_dim(types, node.inputs[0], depth - 1)
    if node.op_type == "MatMul" and (types.rank(_known(node.inputs[1])) or 0) >= 2:
        return last_dim(types, node.inputs[1], depth - 1)
    if node.op_type in BROADCAST:
        dims = [last_dim(types, one, depth - 1) for one in node.inputs]
        return next((dim for dim in dims if dim is not None and dim > 1), None)  # of two sizes one is 1, or both equal
    return None


def least_rank(types: Types, value: Value | None, depth: int = _DEPTH) -> int:
    """A rank that a value has at least."""
    rank = None if value is None else types.rank(value)
    if rank is not None:
        return rank
    node = None if value is None else value.producer
    if node is None or node.domain or depth == 0 or node.outputs[0] is not value:
        return 0
    if node.op_type in UNARY:
        return least_rank(types, node.inputs[0], depth - 1)
    if node.op_type in BROADCAST:
        return max(least_rank(types, one, depth - 1) for one in node.inputs)
    if node.op_type == "MatMul":
        return max(0, *(least_rank(types, one, depth - 1) - 1 for one in node.inputs))
    return 0


def _known(value: Value | None) -> Value:
    assert value is not None
    return value


def changes_rank(match: Match, x: Value) -> str:
    """Why the result of elementwise operators on `x` and on constants of one element may have another rank than `x`:
    a constant of shape (1, 1) makes a matrix of a vector. Empty if it has not."""
    reads = [value for node in match.bound.matched for value in node.inputs if value is not None]
    highest = max((len(value.const.shape) for value in reads if value.const is not None), default=0)
    if highest <= least_rank(match.types, x):
        return ""
    return f"a constant of rank {highest} may change the rank of {x.name!r}"
