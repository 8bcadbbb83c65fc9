"""Weight-only quantization: every weight becomes a constant of narrow codes and the nodes that decode it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial

from ...ir import Model, Node, Value
from ..manager.context import Context
from ..manager.weights import ACCOUNTED_FROM, Reason
from .decode import DecodeForm
from .explain import Held, explain_kept
from .forms import FORMS
from .nbits import NBits
from .opsets import checked, raise_for
from .place import Shared
from .plan import Plan, Planner, Refusal
from .recipe import Recipe
from .repair.bias import put
from .repair.places import place_of
from .rewrite import carry_out, first_readers
from .rounding.options import Rounder
from .scales import Scaling
from .sites import Finder

BY = "quantize-insert"
Decision = tuple[Held, Plan | Refusal]


def quantize_weights(
    ctx: Context,
    *,
    form: str,
    recipe: Recipe,
    min_bytes: int,
    exclude: Sequence[str],
    balance: bool = True,
    nbits: NBits | None = None,
    rounder: Rounder | None = None,
    taken: Collection[Value] = (),
) -> frozenset[Node]:
    """Quantize the weights of all graphs, and account for every constant; returns the nodes whose biases are settled.

    `form` names the decoding, `recipe` says what grids are made of. Weights of less than `min_bytes` and those that
    match a glob of `exclude` are left. With `balance` input channels may get scales too. With `nbits` MatMulNBits reads
    weights where it can. `rounder` finds better codes than the nearest. `taken` are weights that
    something else quantizes.
    """
    decode = FORMS[form]
    scaling = Scaling(decode, partial(_rank, ctx), recipe, balance)
    decisions = _decide(ctx, scaling, min_bytes, exclude, nbits, taken)
    version = ctx.model.version
    problem = raise_for(ctx, _plans(decisions))
    if ctx.model.version != version:
        decisions = _decide(ctx, scaling, min_bytes, exclude, nbits, taken)
    decisions = [
        (held, checked(ctx.model, decode, one, problem) if isinstance(one, Plan) else one) for held, one in decisions
    ]
    _account_for_attributes(ctx)
    explain_kept(ctx, decisions, exclude, lambda kept: kept.nbytes - kept.size, "weight that could be quantized")
    plans = _plans(decisions)
    _raise_ir_version(ctx, plans)
    if rounder is not None:
        plans = rounder.plans(ctx, plans, partial(_carry_out, ctx, decode))
    _carry_out(ctx, decode, plans)
    if not plans and not taken:
        ctx.remarks.missed("model", "no weight was quantized")
    return frozenset(site.node for plan in plans if plan.settled for site in plan.readers.sites)


def _carry_out(ctx: Context, decode: DecodeForm, plans: Sequence[Plan]) -> None:
    """Change the model."""
    first, shared = first_readers(plans), Shared()
    for plan in ctx.progress.track(plans, "quantize"):
        with ctx.rewriter.apply(decode.name, *dict.fromkeys(site.node for site in plan.readers.sites)):
            node = plan.readers.sites[0].node
            place = None if plan.shift is None else place_of(node, _rank(ctx, node.outputs[0]))
            carry_out(ctx, decode, plan, first[plan.value], shared)
            if place is not None and plan.shift is not None:
                put(ctx, place, plan.shift, BY)


def _raise_ir_version(ctx: Context, plans: Sequence[Plan]) -> None:
    """To the lowest that has the types of the codes."""
    needed = max((plan.storage.ir_version for plan in plans), default=0)
    if needed > ctx.model.ir_version:
        ctx.rewriter.set_ir_version(needed)


def _decide(
    ctx: Context,
    scaling: Scaling,
    min_bytes: int,
    exclude: Sequence[str],
    nbits: NBits | None,
    taken: Collection[Value],
) -> list[Decision]:
    """For every constant what is to be done with it."""
    planner = Planner(Finder(ctx.model), scaling, min_bytes, exclude, ctx.selects, nbits)
    constants = [one for one in held_constants(ctx.model) if one[1] not in taken]
    held = ctx.progress.track(constants, "weights")
    return [(one, planner.decide(*one)) for one in held]


def _rank(ctx: Context, value: Value) -> int | None:
    shape = ctx.shapes().shape(value)
    return None if shape is None else len(shape)


def _plans(decisions: Sequence[Decision]) -> list[Plan]:
    return [decision for _, decision in decisions if isinstance(decision, Plan)]


def held_constants(model: Model) -> Iterator[Held]:
    """Every constant and default with the value that holds it."""
    for graph in model.walk_graphs():
        for value in graph.initializers:
            if value.tensor is not None:
                yield graph, value, value.tensor
        for node in graph.nodes:
            if node.constant is not None:
                yield graph, node.outputs[0], node.constant


def _account_for_attributes(ctx: Context) -> None:
    """Tensors in attributes of other nodes than Constant are no weights; what unknown operators do with theirs, nobody
    can say."""
    for graph in ctx.model.walk_graphs():
        for node in graph.nodes:
            reason = Reason.NOT_A_WEIGHT if node.domain in ("", "ai.onnx.ml") else Reason.NOT_RECOGNIZED
            for attribute in node.attributes.values() if node.constant is None else ():
                if attribute.tensor is not None and attribute.tensor.nbytes >= ACCOUNTED_FROM:
                    ctx.weights.kept(attribute.tensor, reason)
