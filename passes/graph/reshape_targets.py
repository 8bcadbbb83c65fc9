"""Reshapes that ask for fewer computed sizes, or for none.

- to sizes that the input has already, or of which one is left to infer: the target is a constant;
- to the sizes of the input without some that are 1, or with more of them: it is a Squeeze or an Unsqueeze;
- else what is computed of the target only to repeat sizes of the input at the same places is 0, which copies them.

Each gives the same shape wherever the Reshape does not fail, sizes of 0 included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from ...ir import Graph, Node, Use, Value, tensor
from ...ir.analysis.dims import Dim
from ...ir.analysis.elements import Shape, blank
from ...ir.analysis.facts import Facts
from ...ir.proto import constant_size
from ..manager.context import Context
from .evaluate import HALF
from .freed import freed_bytes

Target = tuple[int, ...]
View = tuple[str, tuple[int, ...]]
"""Squeeze or Unsqueeze, and its axes."""


def simplify_targets(nodes: list[Node], facts: Facts, ctx: Context) -> int:
    """Apply all that the facts allow; returns how many nodes need less."""
    nodes = [node for node in nodes if not _is_misdeclared(node, facts, ctx)]
    done = _retarget(nodes, facts, ctx)
    return done + _to_views(nodes, facts, ctx) + _copy_sizes(nodes, facts, ctx)


def _is_misdeclared(node: Node, facts: Facts, ctx: Context) -> bool:
    """Whether a Reshape gives an output of the model another rank than that declares: once the target is a constant,
    onnx's checker sees that too, and refuses the model."""
    value = node.outputs[0]
    found = facts.shape(value) if node.is_op("Reshape") else None
    if found is None or not any(_is_contradicted(use, found) for use in value.uses):
        return False
    if all(remark.subject != node.label for remark in ctx.remarks):
        why = f"its target stays computed, as its output {value.name!r} is declared with another rank than it has"
        ctx.remarks.missed(node.label, why, rule="shapes")
    return True


def _is_contradicted(use: Use, found: Shape) -> bool:
    infos = use.user.output_infos if isinstance(use.user, Graph) else ()  # functions have none
    if use.slot >= len(infos) or not infos[use.slot].type.tensor_type.HasField("shape"):
        return False
    return len(infos[use.slot].type.tensor_type.shape.dim) != len(found)


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
    left to infer: where none of the others can be 0, since then it is determined, or where the original infers it
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
    others = [size for place, size in enumerate(result) if place not in open_places]
    if open_places and target[open_places[0]] != -1 and not all(map(facts.is_positive, others)):
        return None
    return tuple(spelled)


# ---- sizes of 1


def _to_views(nodes: list[Node], facts: Facts, ctx: Context) -> int:
    """Make Squeezes and Unsqueezes of the Reshapes that read a computed target, where all of them are."""
    count = 0
    for target in dict.fromkeys(_targets(nodes)):
        users = [use.user for use in target.uses if isinstance(use.user, Node)]
        views = {user: view for user in users if _has_target(user, target) and (view := _view(user, facts))}
        if len(views) == len(target.uses) and all(map(ctx.selects, views)) and _views_pay(target, views):
            for node, (op_type, axes) in views.items():
                _make_view(node, op_type, axes, ctx)
            count += len(views)
    return count


def _targets(nodes: list[Node]) -> list[Value]:
    reshapes = (node for node in nodes if node.is_op("Reshape") and node.graph is not None)
    return [target for node in reshapes if (target := node.input(1)) is not None and target.const is None]


def _has_target(user: Node, target: Value) -> bool:
    return user.is_op("Reshape") and user.input(1) is target and user.input(0) is not target


def _view(node: Node, facts: Facts) -> View | None:
    """The Squeeze or the Unsqueeze that gives the shape of a Reshape; none in half precision (see `canonicalize`)."""
    source, result = facts.shape(node.input(0)), facts.shape(node.outputs[0])
    if source is None or result is None or facts.dtype(node.outputs[0]) in (None, *HALF) or node.outputs[0].pinned:
        return None
    op_type, long, short = ("Squeeze", source, result) if len(source) > len(result) else ("Unsqueeze", result, source)
    axes = _added_ones(long, short)
    return (op_type, axes) if axes else None


def _added_ones(long: Shape, short: Shape) -> tuple[int, ...] | None:
    """Where `long` has sizes of 1 that `short` has not; None if they differ in more."""
    left, axes = list(short), []
    for axis, size in enumerate(long):
        if left and left[0] == size:
            del left[0]
        elif size == 1:
            axes.append(axis)
        else:
            return None
    return None if left else tuple(axes)


def _views_pay(target: Value, views: dict[Node, View]) -> bool:
    size = sum(
        constant_size(TensorProto.INT64, (len(axes),), f"{target.name}_{len(views)}", graph, as_node=graph.is_function)
        + len(op_type) - len("Reshape")
        for node, (op_type, axes) in views.items()
        if (graph := node.graph) is not None
    )  # fmt: skip
    return size <= freed_bytes(target, target.uses)


def _make_view(node: Node, op_type: str, axes: Sequence[int], ctx: Context) -> None:
    rewriter, graph, target = ctx.rewriter, node.graph, node.inputs[1]
    assert graph is not None
    assert target is not None
    with rewriter.apply("reshape-to-view", node):
        inputs, attributes, stored = [node.inputs[0]], {"axes": list(axes)}, None
        if graph.opset.get("", 1) >= 13:
            stored = rewriter.constant(graph, tensor(np.array(axes, np.int64)), target.name, before=node)
            inputs, attributes = [*inputs, stored], {}
        made = rewriter.insert(op_type, inputs, attributes, before=node, outputs=[node.outputs[0].name], origin=[node])
        rewriter.take_over(node.outputs[0], made.outputs[0])
        rewriter.erase(node)
        if stored is not None and target.is_dead and target.graph is graph:
            rewriter.swap_names(target, stored)


# ---- sizes of the input


def _copy_sizes(nodes: list[Node], facts: Facts, ctx: Context) -> int:
    """Write 0 for computed parts of targets that only repeat sizes of the input, where that is all that reads them."""
    count = 0
    parts = (part for target in _targets(nodes) for part in _parts(target.producer))
    for part in dict.fromkeys(parts):
        length = _length(part, facts)
        if part.const is not None or not length or part.pinned or part.graph is None or part.producer is None:
            continue
        if not all(isinstance(use.user, Node) and _is_repeated(part, use.user, facts, ctx) for use in part.uses):
            continue
        as_node = part.needs_constant_node
        size = constant_size(TensorProto.INT64, (length,), part.name, part.graph, as_node=as_node)
        if size <= freed_bytes(part, part.uses):
            with ctx.rewriter.apply("copied-size", part.producer):
                ctx.rewriter.replace_by_constant(part, tensor(np.zeros(length, np.int64)))
            count += 1
    return count


def _parts(node: Node | None) -> list[Value]:
    """What a target is put together from."""
    if node is None or not node.is_op("Concat"):
        return []
    return [value for value in node.inputs if value is not None]


def _length(value: Value, facts: Facts) -> int | None:
    """The number of elements of a vector; None if it is unknown, or no vector of int64."""
    shape = facts.shape(value)
    if shape is None or len(shape) != 1 or facts.dtype(value) != TensorProto.INT64:
        return None
    return shape[0] if isinstance(shape[0], int) else None


def _is_repeated(part: Value, concat: Node, facts: Facts, ctx: Context) -> bool:
    """Whether all that `part` does in a Concat is to give Reshapes sizes that their inputs have at the same places."""
    sizes = facts.elements(part)
    if not concat.is_op("Concat") or sizes is None or not ctx.selects(concat):
        return False
    places, start = list[int](), 0
    for value in _parts(concat):
        if value is part:
            places.append(start)
        length = _length(value, facts)
        if length is None:
            return False
        start += length
    target = concat.outputs[0]
    return not target.pinned and all(
        isinstance(use.user, Node)
        and _has_target(use.user, target)
        and not use.user.attr("allowzero", 0)
        and all(_has_sizes(use.user, place, sizes.tolist(), facts) for place in places)
        for use in target.uses
    )


def _has_sizes(reshape: Node, place: int, sizes: list[Dim | None], facts: Facts) -> bool:
    source = facts.shape(reshape.input(0))
    return source is not None and list(source[place : place + len(sizes)]) == sizes
