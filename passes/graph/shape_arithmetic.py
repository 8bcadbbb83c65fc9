"""Rewrites that rest on symbolic shapes: what is static is stored, what is dynamic stays dynamic.

- a value all of whose elements are known becomes a constant;
- a Reshape asks for fewer computed sizes, or none (`reshape_targets`);
- a Reshape, Expand, Slice, Tile or Pad that changes nothing goes, but not in half precision: onnxruntime computes that
  in float, and whether it rounds between two operators depends on what stands between them.
"""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
from onnx import TensorProto

from ...ir import Graph, Node, Value, tensor
from ...ir.analysis.elements import RANGES, Shape, blank, slice_bounds
from ...ir.analysis.facts import Facts
from ...ir.analysis.shape_rules import is_everything
from ...ir.dtypes import numpy_dtype
from ...ir.proto import constant_size
from ..manager.context import Context
from .evaluate import HALF
from .freed import freed_bytes
from .reshape_targets import simplify_targets


def simplify(facts: Facts, ctx: Context) -> int:
    """Apply all that the facts allow; returns how many rewrites were made. What fails in every run is left as it is: an
    executor that saw it coming would refuse the model, though it may never be run."""
    graphs = [graph for graph in ctx.model.walk_graphs() if not facts.fails(graph)]
    nodes = [node for graph in graphs for node in graph.nodes if ctx.selects(node)]
    dropped = _drop_unneeded(nodes, facts, ctx)
    return dropped + simplify_targets(nodes, facts, ctx) + _cast_like(nodes, facts, ctx)


# ---- operators that change nothing


def _drop_unneeded(nodes: list[Node], facts: Facts, ctx: Context) -> int:
    count = 0
    for node in nodes:
        source = node.input(0) if node.op_type in _UNNEEDED and not node.domain else None
        if source is not None and node.graph is not None and not node.outputs[0].is_dead:
            if any(isinstance(use.user, Graph) for use in node.outputs[0].uses) or node.outputs[0].pinned:
                continue  # an Identity would have to take its place
            if _joins_half_casts(node.outputs[0], source, facts):
                continue
            if facts.dtype(node.outputs[0]) not in (None, *HALF) and _changes_nothing(node, facts):
                with ctx.rewriter.apply("no-change", node):
                    ctx.rewriter.replace(node.outputs[0], source)
                    ctx.rewriter.erase(node)
                count += 1
    return count


def _joins_half_casts(old: Value, new: Value, facts: Facts) -> bool:
    """Whether a conversion from half precision would come to stand beside one to it: onnxruntime drops the two, and
    the rounding with them."""

    def converts(node: Node | None) -> TypeGuard[Node]:
        return node is not None and node.is_op("Cast", "CastLike")

    def may_be_half(value: Value | None) -> bool:
        return value is not None and facts.dtype(value) in (None, *HALF)

    if not converts(new.producer) or not may_be_half(new.producer.input(0)):
        return False
    readers = (use.user for use in old.uses if isinstance(use.user, Node))
    return any(converts(reader) and may_be_half(reader.outputs[0]) for reader in readers)


_UNNEEDED = ("Expand", "Pad", "Reshape", "Slice", "Tile")


def _changes_nothing(node: Node, facts: Facts) -> bool:
    source = facts.shape(node.input(0))
    if source is None:
        return False
    match node.op_type:
        case "Slice":
            parts = slice_bounds(node, facts)
            return parts is not None and all(
                axis < len(source) and is_everything(source[axis], start, end, step) for axis, start, end, step in parts
            )
        case "Tile":
            repeats = facts.numbers(node.input(1))
            return repeats is not None and all(count == 1 for count in repeats)
        case "Pad":
            pads = facts.numbers(node.input(1)) if len(node.inputs) > 1 else node.attr("pads")
            return pads is not None and not any(pads) and node.input(3) is None
        case "Expand":
            return _already_expanded(source, node, facts)
    return facts.shape(node.outputs[0]) == source


def _already_expanded(source: Shape, node: Node, facts: Facts) -> bool:
    target = blank(node.input(1), facts)
    if target is None or target.size > len(source):
        return False
    tail = source[len(source) - target.size :]
    return all(want in (1, size) for want, size in zip(target.flat, tail, strict=True))


# ---- known elements


def store_known(facts: Facts, ctx: Context) -> int:
    """Store values all of whose elements are known, where something reads them that is not known itself."""
    count = 0
    graphs = [graph for graph in ctx.model.walk_graphs() if not facts.fails(graph)]
    for node in [node for graph in graphs for node in graph.nodes if ctx.selects(node)]:
        if node.graph is None or node.op_type in ("If", "Constant") or len(node.outputs) != 1:
            continue
        value = node.outputs[0]
        known = None if value.is_dead or value.pinned else facts.numbers(value)
        if known is not None and _is_read(value, facts) and _store(value, known, facts, ctx):
            count += 1
    return count


def _is_read(value: Value, facts: Facts) -> bool:
    for use in value.uses:
        if isinstance(use.user, Graph):
            return True
        if any(output.uses and facts.numbers(output) is None for output in use.user.outputs):
            return True
    return False


def _store(value: Value, known: list[int], facts: Facts, ctx: Context) -> bool:
    elements, dtype, node = facts.elements(value), facts.dtype(value), value.producer
    if elements is None or dtype not in RANGES or node is None or value.graph is None:
        return False
    as_node = value.needs_constant_node
    size = constant_size(dtype, elements.shape, value.name, value.graph, as_node=as_node)
    if size > freed_bytes(value, value.uses):
        return False
    made = tensor(np.array(known, numpy_dtype(dtype)).reshape(elements.shape))
    with ctx.rewriter.apply("known-elements", node):
        ctx.rewriter.replace_by_constant(value, made)
        ctx.rewriter.erase(node)
    return True


# ---- types


def _cast_like(nodes: list[Node], facts: Facts, ctx: Context) -> int:
    """CastLike of a constant to a known type is a Cast, which can be evaluated."""
    count = 0
    for node in nodes:
        if not node.is_op("CastLike"):
            continue
        source, like = node.input(0), node.input(1)
        if node.graph is None or source is None or like is None or source.const is None:
            continue
        dtype = facts.dtype(like)
        if dtype is None or node.outputs[0].pinned or like.const is not None or dtype == TensorProto.STRING:
            continue
        with ctx.rewriter.apply("cast-like", node):
            rest = {name: value for name, value in node.attributes.items() if name in ("saturate", "round_mode")}
            made = ctx.rewriter.insert(
                "Cast", [source], {"to": dtype, **rest}, before=node, outputs=[node.outputs[0].name], origin=[node]
            )
            ctx.rewriter.take_over(node.outputs[0], made.outputs[0])
            ctx.rewriter.erase(node)
        count += 1
    return count
