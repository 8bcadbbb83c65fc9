"""Carries out a plan: puts levels and scales in place of a weight, and lets its readers read what is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...ir import Graph, Node, Tensor, Value
from ...ir.dtypes import name_of
from ..manager.context import Context
from ..manager.weights import Outcome
from .decode import Axes, DecodeForm, Stored
from .error_bounds import local_bounds
from .levels import Array
from .nbits import DOMAIN, NBits
from .place import Place, Shared
from .plan import Plan
from .repair.bias import put
from .sites import Site

BY = "quantize-insert"


class Placed(Protocol):
    """A value of a graph that something is to stand for."""

    @property
    def graph(self) -> Graph: ...

    @property
    def value(self) -> Value: ...


def first_readers(plans: Sequence[Placed]) -> dict[Value, Node | None]:
    """For the value of each the first node of its graph that reads it or holds a body that does; None if only an
    output of the graph does."""
    graphs = dict.fromkeys(plan.graph for plan in plans)
    positions = {node: position for graph in graphs for position, node in enumerate(graph.nodes)}
    found: dict[Value, Node | None] = {}
    for plan in plans:
        readers = [node for use in plan.value.uses if (node := _node_in(plan.graph, use.user)) is not None]
        found[plan.value] = min(readers, key=positions.__getitem__, default=None)
    return found


def _node_in(graph: Graph, user: Node | Graph) -> Node | None:
    """The node of `graph` that is the user or that the user lies in; None for an output of `graph` itself."""
    node, here = (user, user.graph) if isinstance(user, Node) else (user.parent, user)
    while here is not graph and here is not None:
        node = here.parent
        here = None if node is None else node.graph
    return None if isinstance(user, Graph) and user is graph else node


def store(ctx: Context, form: DecodeForm, plans: Sequence[Plan]) -> None:
    """Quantize weights, move the biases that plans have settled, and raise the IR version to the lowest that has the
    types of the codes."""
    needed = max((plan.storage.ir_version for plan in plans), default=0)
    if needed > ctx.model.ir_version:
        ctx.rewriter.set_ir_version(needed)
    first, shared = first_readers(plans), Shared()
    for plan in ctx.progress.track(plans, "quantize"):
        with ctx.rewriter.apply(form.name, *dict.fromkeys(site.node for site in plan.readers.sites)):
            carry_out(ctx, form, plan, first[plan.value], shared)
            if plan.shift is not None:
                put(ctx, *plan.shift, BY)


def carry_out(ctx: Context, form: DecodeForm, plan: Plan, first: Node | None, shared: Shared) -> None:
    """Quantize one weight; `first` is its first reader, before which it is decoded. Weights share the constants in
    `shared`."""
    subject, what = f"{plan.graph.label}/{plan.value.name}", _what(plan)  # names change hands below
    if plan.nbits is None:
        made, name, cost = _decode(ctx, form, plan, first, shared), form.name, form.cost
    else:
        made, name, cost = _multiply(ctx, plan.nbits, plan), "nbits", plan.nbits.cost
    ctx.weights.became(plan.tensor, made, Outcome.QUANTIZED, form=name)
    ctx.remarks.applied(subject, "; ".join(filter(None, (what, cost, plan.note))), rule=name, bytes_at_stake=plan.saved)


def _multiply(ctx: Context, nbits: NBits, plan: Plan) -> list[Tensor]:
    """Put MatMulNBits in the place of all readers; what is written."""
    rw = ctx.rewriter
    if DOMAIN not in ctx.model.opset:
        rw.set_opset(ctx.model, DOMAIN, 1)
    made = nbits.tensors(plan.tensor, plan.grid, plan.inputs)
    held = {hint: rw.constant(plan.graph, one, hint) for hint, one in made.items()}
    ctx.bounds.extend(local_bounds(plan, None, {}))
    for site in plan.readers.sites:
        nbits.multiply(rw, site, held, plan.tensor.shape[1 - plan.inputs])
    return list(made.values())


def _decode(ctx: Context, form: DecodeForm, plan: Plan, first: Node | None, shared: Shared) -> list[Tensor]:
    """Let all readers read what is decoded; what is written."""
    rw, graph, value = ctx.rewriter, plan.graph, plan.value
    made = _tensors(form, plan)
    held = {hint: rw.constant(graph, one, hint, before=first) for hint, one in made.items()}
    stored = Stored(
        plan.grid, plan.storage, plan.tensor.dtype, held["q"], held["s"], zeros=held.get("z"), factors=held.get("b")
    )
    decoded = None
    if plan.is_read_whole:
        origin = () if value.producer is None else (value.producer,)
        decoded = form.whole(rw, stored, Place(graph, first, origin, shared))
    rows: dict[Site, Value] = {}
    for site in plan.rows:
        rows[site] = form.rows(rw, stored, site.node, shared)
        rw.take_over(site.node.outputs[0], rows[site])
        rw.erase(site.node)
    if decoded is not None:
        rw.take_over(value, decoded)
    ctx.bounds.extend(local_bounds(plan, decoded, rows))
    return list(made.values())


def _tensors(form: DecodeForm, plan: Plan) -> dict[str, Tensor]:
    """By short names: codes, computed when they are written; scales; scales of input channels or zero points if the
    plan has them."""
    grid = plan.grid
    made = {"q": plan.storage.tensor(plan.tensor, grid), "s": form.scales(grid.stored[0], grid.axes)}
    for one in grid.stored[1:]:
        made["b"] = form.scales(one, _long_axes(one))
    if plan.zeros:
        made["z"] = form.zeros(grid, plan.storage)
    return made


def _long_axes(array: Array) -> Axes:
    return tuple(axis for axis, length in enumerate(array.shape) if length > 1)


def _what(plan: Plan) -> str:
    grid, labels = (
        plan.grid,
        list(dict.fromkeys(f"{site.node.op_type} {site.node.label}" for site in plan.readers.sites)),
    )
    more = "" if len(labels) == 1 else f" and {len(labels) - 1} more"
    blocks = "" if grid.block is None else f" in blocks of {grid.block.size}"
    zeros = "" if grid.zeros is None else " and zero points"
    made = f"{name_of(plan.tensor.dtype)} to {grid.alphabet.name} with {grid.size} scales{zeros}{blocks}"
    return f"{made}, for {labels[0]}{more}"
