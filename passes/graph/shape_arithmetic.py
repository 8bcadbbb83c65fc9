"""Rewrites that rest on symbolic shapes: what is static is stored, what is dynamic stays dynamic.

- a value all of whose elements are known becomes a constant;
- a Reshape to sizes that its input has already, or of which one is left to infer, gets a constant target;
- a Reshape, Expand, Slice, Tile or Pad that changes nothing goes, but not in half precision: onnxruntime computes that
  in float, and whether it rounds between two operators depends on what stands between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeGuard

import numpy as np
from onnx import TensorProto

from ...ir import Graph, Node, Use, Value, tensor
from ...ir.analysis.elements import RANGES, Shape, blank, slice_bounds
from ...ir.analysis.facts import Facts
from ...ir.analysis.shape_rules import is_everything
from ...ir.dtypes import numpy_dtype
from ...ir.proto import constant_size, initializer_size, node_size
from ..manager.context import Context
from .evaluate import HALF

Target = tuple[int, ...]


def simplify(facts: Facts, ctx: Context) -> int:
    """Apply all that the facts allow; returns how many rewrites were made. What fails in every run is left as it is: an
    executor that saw it coming would refuse the model, though it may never be run."""
    graphs = [graph for graph in ctx.model.walk_graphs() if not facts.fails(graph)]
    nodes = [node for graph in graphs for node in graph.nodes if ctx.selects(node)]
    return _drop_unneeded(nodes, facts, ctx) + _retarget(nodes, facts, ctx) + _cast_like(nodes, facts, ctx)


# ---- operators that change nothing


def _drop_unneeded(nodes: list[Node], facts: Facts, ctx: Context) -> int:
    count = 0
    for node in nodes:
        source = node.input(0)
        if node.is_op(*_UNNEEDED) and source is not None and node.graph is not None and not node.outputs[0].is_dead:
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


# ---- constant targets


def _retarget(nodes: list[Node], facts: Facts, ctx: Context) -> int:
    """Give Reshapes constant targets; those that share a computed target share the constant."""
    groups: defaultdict[tuple[Value, Target, Graph], list[Node]] = defaultdict(list)
    for node in nodes:
        target = node.input(1)
        if node.is_op("Reshape") and node.graph is not None and target is not None and target.const is None:
            spelled = spelled_target(node, facts)
            if spelled is not None:
                home = (
                    target.graph if all(_same_target(use.user, target, spelled, facts) for use in target.uses) else None
                )
                groups[target, spelled, home or node.graph].append(node)
    return sum(_give_target(target, spelled, home, group, ctx) for (target, spelled, home), group in groups.items())


def _same_target(user: Node | Graph, target: Value, spelled: Target, facts: Facts) -> bool:
    return (
        isinstance(user, Node)
        and user.is_op("Reshape")
        and user.input(1) is target
        and user.input(0) is not target
        and spelled_target(user, facts) == spelled
    )


def _give_target(target: Value, spelled: Target, home: Graph, group: list[Node], ctx: Context) -> int:
    rewriter = ctx.rewriter
    stored = tensor(np.array(spelled, np.int64))
    size = constant_size(stored.dtype, stored.shape, target.name + "_1", home, as_node=home.is_function)
    if size > freed_bytes(target, [Use(node, 1) for node in group]):
        return 0
    with rewriter.apply("constant-target", *group):
        made = rewriter.constant(
            home, stored, target.name, before=target.producer if home is target.graph else group[0]
        )
        for node in group:
            rewriter.set_input(node, 1, made)
            if node.attr("allowzero", 0):
                rewriter.set_attribute(node, "allowzero", None)
        if target.is_dead and not target.is_input:
            rewriter.swap_names(target, made)
    return len(group)


def spelled_target(node: Node, facts: Facts) -> Target | None:
    """A constant target that gives the same shape wherever the Reshape does not fail, sizes of 0 included.

    What counts is the shape of the result: a size that the input has at the same place is written 0. One size may be
    left to infer: where the others are numbers above 0, since then it is determined, or where the original infers it
    too (and fails where others are 0).
    """
    source, target, result = facts.shape(node.input(0)), blank(node.input(1), facts), facts.shape(node.outputs[0])
    if source is None or target is None or target.ndim != 1:
        return None
    if result is None:
        return None
    spelled: list[int] = []
    open_places: list[int] = []
    for place, size in enumerate(result):
        if isinstance(size, int):
            spelled.append(size)
        elif place < len(source) and source[place] == size:
            spelled.append(0)
        else:
            open_places.append(place)
            spelled.append(-1)
    if 0 in result:
        return None  # 0 stands for the size of the input
    if len(open_places) > 1:
        return None
    others = [size for place, size in enumerate(spelled) if place not in open_places]
    if open_places and target[open_places[0]] != -1 and not all(size > 0 for size in others):
        return None
    return tuple(spelled)


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


def freed_bytes(value: Value, uses: Iterable[Use]) -> int:
    """Bytes that the file loses when these uses of a value are no more, with what only it was computed from."""
    gone, lost = set(uses), set[Node]()

    def unread(value: Value) -> bool:
        return not value.pinned and all(use in gone or use.user in lost for use in value.uses)

    def free(value: Value) -> int:
        producer = value.producer
        if producer is None:
            tensor = value.tensor
            return 0 if tensor is None or value.is_input else initializer_size(tensor, value.name)
        if producer in lost or not all(unread(output) for output in producer.outputs):
            return 0
        lost.add(producer)
        reads = dict.fromkeys(read for read in producer.inputs if read is not None)
        return node_size(producer) + sum(free(read) for read in reads if unread(read))

    return free(value) if unread(value) else 0


# ---- types


def _cast_like(nodes: list[Node], facts: Facts, ctx: Context) -> int:
    """CastLike of a constant to a known type is a Cast, which can be evaluated."""
    count = 0
    for node in nodes:
        source, like = node.input(0), node.input(1)
        if not node.is_op("CastLike") or node.graph is None or source is None or like is None or source.const is None:
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
