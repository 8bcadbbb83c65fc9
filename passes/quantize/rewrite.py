"""Carries out a plan: puts levels and scales in place of a weight, and lets its readers read what is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
from onnx import TensorProto

from ...ir import DerivedTensor, Graph, Node, Tensor, Value, tensor
from ...ir.dtypes import name_of
from ..manager.context import Context
from ..manager.weights import Outcome
from .decode import Axes, DecodeForm, Place, Stored
from .error_bounds import local_bounds
from .levels import Array, encode
from .plan import Plan
from .sites import Site

INT8 = int(TensorProto.INT8)


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


def rewrite(ctx: Context, form: DecodeForm, plan: Plan, first: Node | None) -> None:
    """Quantize one weight; `first` is its first reader, before which it is decoded."""
    rw, graph, value = ctx.rewriter, plan.graph, plan.value
    name = f"{graph.label}/{value.name}"
    made = _tensors(form, plan)
    hints = "qsb" if plan.steps.factors else "qsz"
    held = [rw.constant(graph, one, hint, before=first) for one, hint in zip(made, hints, strict=False)]
    third = held[2] if len(held) > 2 else None
    zeros, factors = (None, third) if plan.steps.factors else (third, None)
    rank = len(plan.tensor.shape)
    stored = Stored(held[0], held[1], zeros, plan.tensor.dtype, plan.steps.axes, rank, factors)
    decoded = None
    if plan.is_read_whole:
        origin = () if value.producer is None else (value.producer,)
        decoded = form.whole(rw, stored, Place(graph, first, origin))
    rows: dict[Site, Value] = {}
    for site in plan.rows:
        rows[site] = form.rows(rw, stored, site.node)
        rw.take_over(site.node.outputs[0], rows[site])
        rw.erase(site.node)
    if decoded is not None:
        rw.take_over(value, decoded)
    ctx.weights.became(plan.tensor, made, Outcome.QUANTIZED, form=form.name)
    ctx.bounds.extend(local_bounds(plan, decoded, rows))
    what = f"{name_of(plan.tensor.dtype)} to int8 with {plan.steps.size} scales, for {_readers(plan)}"
    ctx.remarks.applied(name, what, rule=form.name, bytes_at_stake=plan.saved)


def _tensors(form: DecodeForm, plan: Plan) -> list[Tensor]:
    """Levels, computed when they are written; scales; scales of input channels or zero points if the plan has them."""
    levels = DerivedTensor(
        "int8-levels", partial(encode, steps=plan.steps.array), (plan.tensor,), INT8, plan.tensor.shape
    )
    scales = form.scales(plan.steps.stored[0], plan.steps.axes)
    more = [form.scales(one, _long_axes(one)) for one in plan.steps.stored[1:]]
    return [levels, scales, *more, *([tensor(np.zeros(scales.shape, np.int8))] if plan.zeros else [])]


def _long_axes(array: Array) -> Axes:
    return tuple(axis for axis, length in enumerate(array.shape) if length > 1)


def _readers(plan: Plan) -> str:
    labels = list(dict.fromkeys(f"{site.node.op_type} {site.node.label}" for site in plan.readers.sites))
    return labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more"
