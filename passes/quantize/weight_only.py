"""Weight-only quantization: every weight becomes a constant of narrow codes and the nodes that decode it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from ...ir import Model, Node, Value
from ..manager.context import Context
from ..manager.weights import ACCOUNTED_FROM, Reason
from .budget.options import Precision
from .explain import Held, explain_kept
from .forms import FORMS
from .nbits import NBits
from .opsets import checked, raise_for
from .plan import Plan, Planner, Refusal
from .recipe import Recipe
from .rewrite import store
from .rounding.options import Rounder
from .scales import Scaling
from .sites import Finder

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
    precision: Precision | None = None,
    taken: Collection[Value] = (),
) -> frozenset[Node]:
    """Quantize the weights of all graphs, and account for every constant; returns the nodes whose biases are settled.

    `form` names the decoding, `recipe` says what grids are made of. Weights of less than `min_bytes` and those that
    match a glob of `exclude` are left. With `balance` input channels may get scales too. With `nbits` MatMulNBits reads
    weights where it can. `rounder` finds better codes than the nearest. `precision` gives weights types of
    their own. `taken` are weights that something else quantizes.
    """
    decode = FORMS[form]
    scaling = Scaling(decode, partial(_rank, ctx), recipe, balance)
    planner = Planner(Finder(ctx.model), scaling, min_bytes, exclude, ctx.selects, nbits)
    decisions = _decide(ctx, planner, taken)
    version = ctx.model.version
    problem = raise_for(ctx, _plans(decisions))
    if ctx.model.version != version:
        planner = replace(planner, finder=Finder(ctx.model))
        decisions = _decide(ctx, planner, taken)
    decisions = [
        (held, checked(ctx.model, decode, one, problem) if isinstance(one, Plan) else one) for held, one in decisions
    ]
    _account_for_attributes(ctx)
    others = partial(_in_other_types, ctx, planner)
    if precision is not None:
        decisions = _replaced(decisions, precision.within_budget(ctx, decode, _plans(decisions), others))
    if rounder is not None:
        made = rounder.plans(ctx, _plans(decisions), partial(store, ctx, decode))
        decisions = _replaced(decisions, made)
    if precision is not None:
        decisions = _replaced(decisions, precision.within_error(ctx, decode, _plans(decisions), others))
    explain_kept(ctx, decisions, exclude, lambda kept: kept.nbytes - kept.size, "weight that could be quantized")
    plans = _plans(decisions)
    store(ctx, decode, plans)
    if not plans and not taken:
        ctx.remarks.missed("model", "no weight was quantized")
    return frozenset(site.node for plan in plans if plan.settled for site in plan.readers.sites)


def _replaced(decisions: Sequence[Decision], made: Sequence[Plan | Refusal]) -> list[Decision]:
    """The decisions, with what was made of their plans, in order."""
    new = iter(made)
    return [(held, next(new) if isinstance(one, Plan) else one) for held, one in decisions]


def _in_other_types(ctx: Context, planner: Planner, plan: Plan, recipes: Sequence[Recipe]) -> list[Plan]:
    """The weight of a plan by other recipes, where they make it smaller and the opset has what they need."""
    made = planner.in_other_types(plan, recipes)
    return [one for one in made if isinstance(checked(ctx.model, planner.scaling.form, one, None), Plan)]


def _decide(ctx: Context, planner: Planner, taken: Collection[Value]) -> list[Decision]:
    """For every constant what is to be done with it."""
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
