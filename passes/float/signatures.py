"""Which inputs and outputs of a node become 16 bits together, by the type constraints of its operator's schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from onnx import TensorProto, defs

from ...ir import Node, Value
from ...ir.dtypes import name_of
from .formats import Format

FLOAT = int(TensorProto.FLOAT)
SCALED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearMatMul", "QLinearConv")
"""Operators whose floats are scales of integers: their error would come on top of the one that was stated."""


@dataclass(frozen=True)
class Slots:
    """Of a node: the inputs and outputs that become 16 bits if it computes so, and the inputs that take either type."""

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    free: tuple[int, ...] = ()


EXACT_IN_16 = (TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8)
"""Types whose numbers are all numbers of both formats, for bfloat16 up to 256."""
DtypeOf = Callable[[Value], int | None]


def slots_of(node: Node, opset: int, format: Format, dtype_of: DtypeOf) -> Slots | str:
    """What becomes 16 bits with a node; or the reason why nothing does."""
    if node.domain or node.bodies or any(attribute.ref for attribute in node.attributes.values()):
        return "what it takes is not known"
    if node.op_type in SCALED:
        return "it reads scales of integers"
    unknown = next((v for v in (*node.inputs, *node.outputs) if v is not None and v.name and dtype_of(v) is None), None)
    if unknown is not None:
        return f"the type of {unknown.name!r} is not known"
    if node.op_type == "ConstantOfShape":
        return Slots(outputs=(0,) if _is_wide(node.outputs[0], dtype_of) and _fits(node, format) else ())
    if node.op_type in ("Cast", "CastLike"):
        return _cast(node, dtype_of)
    schema = _schema(node.op_type, opset)
    if schema is None:
        return f"opset {opset} has no such operator"
    ins = _variables(schema.inputs, node.inputs)
    outs = _variables(schema.outputs, node.outputs)
    counts = Counter([*ins.values(), *outs.values()])
    takes = _variables_that_take(node.op_type, opset, name_of(format.dtype))
    wide = {slot: name for slot, name in ins.items() if name in takes and _is_wide(node.inputs[slot], dtype_of)}
    tied = {name for name in wide.values() if counts[name] > 1}
    outputs = [slot for slot, name in outs.items() if name in tied and _is_wide(node.outputs[slot], dtype_of)]
    return Slots(
        tuple(slot for slot, name in wide.items() if name in tied),
        tuple(outputs),
        tuple(slot for slot, name in wide.items() if name not in tied),
    )


def _fits(node: Node, format: Format) -> bool:
    held = node.attr("value")
    return held is None or not format.errors(held.numpy()).any()


def _cast(node: Node, dtype_of: DtypeOf) -> Slots:
    """A Cast to float32 makes 16 bits of what loses nothing by it, and of float32. One from 16 bits undoes a Cast to
    them, and stays."""
    value, target = node.inputs[0], tuple(range(1, len(node.inputs)))
    dtype = None if value is None else dtype_of(value)
    if not _is_wide(node.outputs[0], dtype_of):
        return Slots(free=(0,))
    if dtype == FLOAT:
        return Slots((0, *target), (0,))
    return Slots(target, (0,)) if dtype in EXACT_IN_16 else Slots()


def _is_wide(value: Value | None, dtype_of: DtypeOf) -> bool:
    return value is not None and bool(value.name) and dtype_of(value) == FLOAT


@cache
def _schema(op_type: str, opset: int) -> defs.OpSchema | None:
    try:
        return defs.get_schema(op_type, opset, "")
    except defs.SchemaError:
        return None


@cache
def _variables_that_take(op_type: str, opset: int, name: str) -> frozenset[str]:
    """The type variables of an operator that may be a tensor of that element type."""
    schema = _schema(op_type, opset)
    constraints = [] if schema is None else schema.type_constraints
    return frozenset(c.type_param_str for c in constraints if f"tensor({name})" in c.allowed_type_strs)


def _variables(formals: Sequence[Any], values: Sequence[Value | None]) -> dict[int, str]:
    """By slot the type variable or the type of what is there; nothing where a variadic input takes several types."""
    found = {}
    for slot, value in enumerate(values):
        formal = formals[min(slot, len(formals) - 1)] if formals else None
        if value is not None and value.name and formal is not None and formal.is_homogeneous:
            found[slot] = formal.type_str
    return found
