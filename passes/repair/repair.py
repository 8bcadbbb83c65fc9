"""Repair: refit the layers behind what passes did, each to what it gave before them.

Of a layer with input x and weights W before, and input x~ now, the weights W~ that lose least follow from moments alone
(`calibrate/refit.py`): they minimise E|x~ W~ + b~ - x W - b|^2, pulled towards the weights of now by a ridge. That is
the one that does best on every other sample when fitted to those between; where none does better, the weights stay.
Layers are refitted in order, in at most 16 walks, each on the input that it has after the repairs before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...ir import Graph, Model, Tensor, Value, clone_model, tensor
from ..calibrate import stages
from ..calibrate.halves import Halves, observed_halves
from ..calibrate.refit import Refit
from ..calibrate.stream import samples_of
from ..manager.base import Effect, Pass
from ..manager.bounds import LocalBound
from ..manager.context import Context
from ..manager.options import option
from ..manager.weights import Outcome
from ..rewriting.layers import add_to_bias, put
from .counterparts import Counterpart, Float64, changed_values, counterparts

FLOATS = (np.float16, np.float32, np.float64)
ROUNDING = 1e-6
"""Of the second moments, what they may differ by where nothing but rounding has changed."""
FREE = (Outcome.FOLDED, Outcome.FACTORIZED, Outcome.REFITTED)
FREE_FORMS = ("cut", "refit", "absorbed", "statistics")
"""What leaves a weight free to take any numbers."""


@dataclass(frozen=True)
class Repair(Pass):
    """Run the passes inside, then refit the layers behind what they did to what the layers gave before.

    No labels and no training: least squares on the sample data, layer by layer, in order.
    """

    name: ClassVar[str] = "repair"
    effect: ClassVar[Effect] = Effect.LOSSY
    idempotent: ClassVar[bool] = False
    takes_pipeline: ClassVar[bool] = True

    ridge: float | None = option(
        None, "pull towards the weights, as a share of the mean variance of an input; none: by the data", low=0
    )
    inside: tuple[Pass, ...] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """Refit what reads a value that changed."""
        samples_of(ctx, "repair")
        copies: dict[Value, Value] = {}
        before, stated, version = clone_model(ctx.model, copies), len(ctx.bounds), ctx.model.version
        for pass_ in self.inside:
            ctx.run(pass_)
        if ctx.model.version == version:
            ctx.remarks.missed("model", "nothing changed that could be repaired", rule="repair")
            return
        meant = _meant(ctx, before, changed_values(ctx.model, copies), stated)
        done = sum(self._refit(ctx, before, stage) for stage in stages.in_stages(meant, _need))
        ctx.remarks.applied("model", f"{done} of {len(meant)} layers refitted", rule="repair")

    def _refit(self, ctx: Context, before: Model, stage: Sequence[Counterpart]) -> int:
        now = [one.as_it_is() for one in stage]
        seen = observed_halves(ctx, before, ((one.old, one.new) for one in now), purpose="repair")
        return sum(_apply(ctx, one, halves, self.ridge) for one, halves in zip(now, seen, strict=True))


def _need(one: Counterpart) -> int:
    return Halves.nbytes_for(one.old, one.new)


def _meant(ctx: Context, before: Model, changed: set[Value], stated: int) -> list[Counterpart]:
    """What can be refitted; says why other layers stay."""
    found = []
    for one in counterparts(ctx.model, before, changed, ctx.bounds[stated:]):
        layer, reason = one if isinstance(one, tuple) else (one.new, _refusal(ctx, one))
        if reason:
            ctx.remarks.missed(layer.weight.name, f"not refitted: {reason}", rule="repair")
        elif isinstance(one, Counterpart):
            found.append(one)
    return found


def _refusal(ctx: Context, one: Counterpart) -> str:
    held = one.new.weight.const
    nodes = [one.new.node, *([one.bias.add] if one.bias is not None and one.bias.add is not None else [])]
    if not all(ctx.selects(node) for node in nodes):
        return "it is left out"
    if held is None or held.numpy().dtype not in FLOATS or not all(np.isfinite(each).all() for each in one.weights):
        return "its weights are no finite floats"
    if form := next((form for form in _past(ctx, held) if form is not None), None):
        return f"its weight would lose its form ({form})"
    return "its moments take too much memory" if _need(one) > stages.MEMORY else ""


def _past(ctx: Context, held: Tensor) -> Iterator[str | None]:
    """The forms that a pass gave a weight (a mask, fewer bits), which other numbers do not have."""
    for outcome, form in ctx.weights.past(held):
        is_free = outcome in FREE or (outcome is Outcome.PRUNED and form in FREE_FORMS)
        yield None if is_free else form or str(outcome)


def _apply(ctx: Context, one: Counterpart, halves: Halves, ridge: float | None) -> bool:
    """Give a layer its new weights and bias; whether there were better ones."""
    if not halves.count or all(map(_is_same, halves.parts)):
        return False
    old, now = one.weights
    fit, better = halves.refitted(old, now, ridge=ridge, bias=one.bias is not None)
    held = one.new.weight.const
    assert held is not None
    array = one.new.weight_of(now if better is None else better).astype(held.numpy().dtype)
    stored = np.asarray(one.new.matrices(array), np.float64)
    amounts = one.old_bias + fit.shift(old, stored).reshape(-1) - one.bias.numbers if one.bias is not None else None
    if not np.isfinite(array).all() or (amounts is not None and not np.isfinite(amounts).all()):
        return False
    changed = bool((stored != now).any())
    with ctx.rewriter.apply("refit", one.new.node):
        if changed:
            made = tensor(array)
            ctx.weights.became(held, [made], Outcome.REFITTED, form="repair")
            put(ctx.rewriter, one.new.weight, made)
        if amounts is not None:
            _move_bias(ctx, one, amounts)
    _state(ctx, one, np.abs(stored - now), amounts)
    return changed or amounts is not None


def _is_same(fit: Refit) -> bool:
    """Whether the layer reads what it read before, up to rounding."""
    if fit.old.k != fit.new.k:
        return False
    size = np.abs(fit.second).max(initial=0)
    return bool(np.abs(fit.second - fit.cross).max(initial=0) <= ROUNDING * size)


def _move_bias(ctx: Context, one: Counterpart, amounts: Float64) -> None:
    assert one.bias is not None
    value = one.bias.held
    if value is None:
        add_to_bias(ctx, one.new.node, one.new.bias, amounts, form="repair", outcome=Outcome.REFITTED)
        return
    held = value.const
    assert held is not None
    array = held.numpy()
    made = tensor((array.astype(np.float64) + amounts.reshape(array.shape)).astype(array.dtype))
    ctx.weights.became(held, [made], Outcome.REFITTED, form="repair")
    put(ctx.rewriter, value, made)


def _state(ctx: Context, one: Counterpart, change: Float64, amounts: Float64 | None) -> None:
    """abs(dy) <= sum of abs(dW) abs(input), and what is known of the input; and what the bias was moved by."""
    graph = one.old.node.graph
    assert graph is not None
    axis = 1 if one.old.op_type == "Conv" else -1

    def state(form: str, name: str, per_channel: Float64, weight: str = "") -> None:
        if per_channel.any():
            ctx.bounds.append(LocalBound("repair", graph.label, name, form, axis, per_channel, weight))

    state("linear", one.y, np.einsum("gkn,gk->gn", change, one.slope).reshape(-1), one.old.weight.name)
    state("absolute", one.y, np.einsum("gkn,gk->gn", change, one.offset).reshape(-1))
    if amounts is not None:
        state("absolute", one.biased, np.abs(amounts))
