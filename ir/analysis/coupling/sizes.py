"""Where the numbers of a shape operand come from: constants that can be rewritten, or sizes read off values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...rewriter import Rewriter
from ...tensor import tensor
from ...value import Value
from .axes import constant_ints

_DEPTH = 12


@dataclass(frozen=True)
class Entry:
    """One number of a shape operand: a constant `number`, or the size of an axis (`dim`) that follows by itself."""

    number: int | None = None
    dim: tuple[Value, int] | None = None


def entries(value: Value | None, depth: int = _DEPTH) -> dict[int, Entry]:
    """What is known of the numbers of a shape operand, by position (0 for a scalar)."""
    if value is None or not depth:
        return {}
    numbers = constant_ints(value)
    if numbers is not None:
        return {place: Entry(number) for place, number in enumerate(numbers)}
    node = value.producer
    if node is None or node.domain:
        return {}
    first = node.input(0)
    match node.op_type:
        case "Cast" | "Identity" | "Unsqueeze" | "Squeeze" | "Reshape":
            inner = entries(first, depth - 1)
            return inner if node.op_type in ("Cast", "Identity") or len(inner) == 1 else {}
        case "Concat":
            return _joined([(entries(part, depth - 1), length(part)) for part in node.inputs if part is not None])
        case "Gather":
            picks = constant_ints(node.input(1))
            table = _dims_of_shape(first, depth - 1)
            if picks is None:
                return {}
            return {place: table[pick] for place, pick in enumerate(picks) if pick in table}
        case "Slice":
            starts, ends, steps = (constant_ints(node.input(slot)) for slot in (1, 2, 4))
            table = _dims_of_shape(first, depth - 1)
            if starts is None or ends is None or (steps or [1]) != [1]:
                return {}
            known = [place for place in sorted(table) if place >= 0][starts[0] : ends[0]]
            return {to: table[place] for to, place in enumerate(known)}
        case "Shape":
            return {place: entry for place, entry in _dims_of_shape(value, depth).items() if place >= 0}
    return {}


def _dims_of_shape(value: Value | None, depth: int) -> dict[int, Entry]:
    """The axes behind the output of a Shape whose input has a declared or known rank; negative places too."""
    node = None if value is None else value.producer
    while node is not None and node.is_op("Cast", "Identity") and depth:
        inner = node.input(0)
        node, depth = (None if inner is None else inner.producer), depth - 1
    if node is None or not node.is_op("Shape") or node.attr("start", 0) or node.attr("end") is not None:
        return {}
    x = node.input(0)
    assert x is not None
    return {place: Entry(dim=(x, place)) for place in range(8)}


def length(value: Value) -> int | None:
    """How many numbers a shape operand has, where it is plain."""
    if value.const is not None:
        return value.const.size
    node = value.producer
    if node is None:
        return None
    first = node.input(0)
    match node.op_type:
        case "Unsqueeze" | "Reshape":
            inner = entries(first)
            return 1 if len(inner) <= 1 else None
        case "Cast" | "Identity":
            return None if first is None else length(first)
        case "Gather":
            picks = constant_ints(node.input(1))
            return None if picks is None else len(picks)
        case "Slice":
            starts, ends = constant_ints(node.input(1)), constant_ints(node.input(2))
            if starts is None or ends is None or starts[0] < 0 or not 0 <= ends[0] < 8:
                return None
            return ends[0] - starts[0]
        case "Concat":
            parts = [length(part) for part in node.inputs if part is not None]
            return None if None in parts else sum(part or 0 for part in parts)
    return None


def _joined(parts: list[tuple[dict[int, Entry], int | None]]) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    start = 0
    for inner, size in parts:
        if size is None:
            break  # positions after a part of unknown length cannot be told
        found |= {start + place: entry for place, entry in inner.items()}
        start += size
    return found


def rewritten(rewriter: Rewriter, value: Value, changes: Mapping[int, int]) -> Value:
    """A shape operand that differs from `value` at some positions; what else reads `value` keeps it."""
    graph = value.graph
    assert graph is not None
    if value.const is not None:
        array = np.array(value.const.numpy())
        flat = array.reshape(-1)
        for position, number in changes.items():
            flat[position] = number
        made = tensor(flat.reshape(array.shape))
        return rewriter.constant(graph, made, value.name, before=value.producer, as_node=value.producer is not None)
    node = value.producer
    assert node is not None
    inputs = list(node.inputs)
    if node.op_type == "Concat":
        start = 0
        for slot, part in enumerate(inputs):
            assert part is not None
            size = length(part)
            if size is None:
                break
            inside = {place - start: number for place, number in changes.items() if start <= place < start + size}
            if inside:
                inputs[slot] = rewritten(rewriter, part, inside)
            start += size
    else:
        assert inputs[0] is not None
        inputs[0] = rewritten(rewriter, inputs[0], changes)
    made_node = rewriter.insert(node.op_type, inputs, node.attributes, before=node, outputs=[value.name], origin=[node])
    return made_node.outputs[0]
