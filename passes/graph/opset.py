"""Take a model to another opset, one node at a time.

A node whose operator means the same in both versions stays untouched, source message and all. Any other is converted
alone, by onnx's version converter, as a model of this one node without its weights; that leaves alone what the
converter would lose of a whole model (functions, metadata). What it gives is run beside the original on random inputs
before it is believed. The version of the file format stays: none of the operators needs another.
"""

from __future__ import annotations

from onnx import defs

from ...ir import Model, Node, Value
from ...ir.graph import Function
from ..manager.context import Context
from .convert_node import convert, input_names
from .executor import why_not_load
from .same_operator import means_the_same, superfluous

_LEAST_IR_VERSION = 3
LOWEST = 7
"""Below, operators broadcast in another way, which signatures do not tell."""


def raise_opset(ctx: Context, target: int) -> str | None:
    """Raise the standard domain of the main graph and of all functions to at least `target`: onnx wants their operators
    to be the same.

    None if it is done (or was so high before), else the reason why not; the model is then as it was.
    """
    return _convert(ctx, target, [owner for owner in _owners(ctx) if owner.opset.get("", target) < target])


def set_opset(ctx: Context, target: int) -> str | None:
    """Take the standard domain of the main graph and of all functions to `target`, up or down.

    None if it is done (or was so before), else the reason why not; the model is then as it was.
    """
    return _convert(ctx, target, [owner for owner in _owners(ctx) if owner.opset.get("", target) != target])


def _owners(ctx: Context) -> list[Model | Function]:
    return [ctx.model, *ctx.model.functions.values()]


def _convert(ctx: Context, target: int, owners: list[Model | Function]) -> str | None:
    problem = _why_not_loaded(ctx, target) if owners else ""
    if problem:
        return problem
    mark = ctx.rewriter.mark()
    for owner in owners:
        problem = _convert_owner(ctx, owner, owner.opset[""], target)
        if problem:
            ctx.rewriter.rollback(mark)
            where = "" if isinstance(owner, Model) else f"in function {owner.label} "
            return f"{where}{problem}"
    return None


def _why_not_loaded(ctx: Context, target: int) -> str:
    newest = defs.onnx_opset_version()
    if target > newest:
        return f"opset {target} is not known: the newest is {newest}"
    return (
        "" if ctx.backend is None else why_not_load(ctx.backend, target, max(ctx.model.ir_version, _LEAST_IR_VERSION))
    )


def _convert_owner(ctx: Context, owner: Model | Function, now: int, target: int) -> str:
    if min(now, target) < LOWEST:
        return f"opset {min(now, target)} is too old: operators broadcast in another way below {LOWEST}"
    root = owner.graph if isinstance(owner, Model) else owner.body
    nodes = [node for graph in root.walk_graphs() for node in graph.nodes if not node.domain]
    found: list[tuple[Node, Model]] = []
    shortened: list[tuple[Node, tuple[str, ...]]] = []
    dtype_of = ctx.shapes().dtype
    for node in nodes:
        if (node.domain, node.op_type, node.overload) in ctx.model.functions:
            continue
        extra = superfluous(node, now, target)
        if means_the_same(node, now, target, dtype_of, without=extra):
            shortened.append((node, extra))
            continue
        conversion = convert(ctx, node, now, target)
        if isinstance(conversion, str):
            return f"{node.op_type} {node.label!r} cannot be taken from opset {now} to {target}: {conversion}"
        found.append((node, conversion))
    for node, names in shortened:
        for name in names:
            ctx.rewriter.set_attribute(node, name, None)
    for node, conversion in found:
        _splice(ctx, node, conversion)
    ctx.rewriter.set_opset(owner, "", target)
    return ""


def _splice(ctx: Context, node: Node, made: Model) -> None:
    """Put the nodes of `made` in the place of `node`."""
    rw, graph = ctx.rewriter, node.graph
    if graph is None:
        return
    outer = {name: value for value, name in input_names(node).items()}
    values: dict[Value, Value] = {}
    for value in (*made.graph.inputs, *made.graph.initializers):
        if value.name in outer:
            values[value] = outer[value.name]
        elif value.tensor is not None and value.uses:
            values[value] = rw.constant(graph, value.tensor, f"{node.outputs[0].name}_{value.name}", before=node)
    for one in made.graph.nodes:
        if one.constant is not None:
            values[one.outputs[0]] = rw.constant(graph, one.constant, f"{node.outputs[0].name}_c", before=node)
            continue
        inputs = [None if value is None else values[value] for value in one.inputs]
        hints = [f"{node.outputs[0].name}_{value.name}" for value in one.outputs]
        copy = rw.insert(one.op_type, inputs, one.attributes, before=node, outputs=hints, origin=[node])
        values.update(zip(one.outputs, copy.outputs, strict=True))
    results = {value.name: values[value] for value in made.graph.outputs}
    for slot, value in enumerate(node.outputs):
        if value.name:
            rw.take_over(value, results[f"o{slot}"])
    rw.erase(node)
