"""What runtimes put together again: normalizations and Gelu written as single operators.

onnxruntime has kernels for them, and finds them by their last operators, too. A Mul or Add that is the end of one is
not taken away: one operator less in the file would be many more at run time.
"""

from __future__ import annotations

from ....ir import Node, Value


def is_part_of_a_kernel(node: Node) -> bool:
    """Whether a node ends a decomposed normalization or Gelu."""
    return _ends_normalization(node) or _ends_gelu(node)


def _ends_normalization(node: Node) -> bool:
    """Mul by a gain, or Add of a bias after it, where a Div by a Sqrt comes before."""
    for value in node.inputs:
        producer = None if value is None else value.producer
        if producer is not None and producer.is_op("Mul") and node.is_op("Add"):
            return _ends_normalization(producer)
        if producer is not None and producer.is_op("Div") and _made_by(producer.input(1), "Sqrt"):
            return True
    return False


def _ends_gelu(node: Node) -> bool:
    """Mul by 0.5 of x (1 + Erf(...)) or x (1 + Tanh(...))."""
    for value in node.inputs:
        producer = None if value is None else value.producer
        if producer is not None and producer.is_op("Mul"):
            for factor in producer.inputs:
                total = None if factor is None else factor.producer
                if total is not None and total.is_op("Add") and any(_made_by(v, "Erf", "Tanh") for v in total.inputs):
                    return True
    return False


def _made_by(value: Value | None, *op_types: str) -> bool:
    return value is not None and value.producer is not None and value.producer.is_op(*op_types)
