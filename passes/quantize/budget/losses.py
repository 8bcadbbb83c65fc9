"""What each type costs: how far the outputs move if one weight alone is stored in it.

With sample data the squared error of a layer y = x W in one type is E|x dW|^2 over E|x W|^2, from second moments of
its input on samples that were held out; of weights that are no such matrices, and without data, |dW|^2 over |W|^2. What
the outputs make of it is measured with types of less than 8 bits: the rel-L2 of the outputs with that weight alone in
them. Wider types follow from the least of 4 bits or more: squared errors of outputs and layer are proportional as
long as both are small.

What the data never reach (branches not taken) says nothing about its weights: for them the error of the weight counts,
times what the middle one of the others makes of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from ...manager.context import Context
from ..blocks import parts
from ..decode import DecodeForm
from ..plan import Plan
from ..rewrite import store
from ..rounding.choice import Task
from ..rounding.observed import grams
from ..rounding.run import readers_of
from ..static.trial import Outputs

SAMPLES = 4
"""On which outputs are measured for every weight."""
MEASURED_BITS = 8
"""Types of fewer bits are measured."""
LEAST_BITS = 4
"""From so many bits on errors are small enough to be proportional."""


@dataclass
class Losses:
    """Of one weight in each of some types: squared errors of its layer as shares (`layer`; of the weight itself, where
    those are not known), and of the outputs. `influence` is what the outputs make of the error of the weight, None if
    it is not known; `is_seen` is false if the data say nothing of it."""

    weight: list[float]
    layer: list[float]
    outputs: list[float]
    influence: float | None = None
    is_seen: bool = True


def losses_of(
    ctx: Context, form: DecodeForm, weights: Sequence[Sequence[Plan]], memory: int, outputs: Outputs | None
) -> list[Losses]:
    """For the plans of every weight, narrow ones first, what they cost. `outputs` are those of the model as it is; None
    without data: then the errors of weights count as they are."""
    found = []
    for plans in weights:
        errors = [_weight_error(plan) for plan in plans]
        found.append(Losses(errors, errors, errors))
    if outputs is None:
        return found
    _observe(ctx, weights, memory, found)
    for plans, losses in ctx.progress.track(list(zip(weights, found, strict=True)), "sensitivity"):
        _measure(ctx, form, plans, losses, outputs)
    known = [one.influence for one in found if one.influence is not None]
    for losses in found:
        if losses.influence is None:
            middle = median(known) if known else 1.0
            losses.outputs = [middle * error for error in losses.weight]
    return found


def _weight_error(plan: Plan) -> float:
    """|dW|^2 / |W|^2."""
    weight, off, size = plan.tensor.numpy(), 0.0, 0.0
    for part in parts(weight.shape):
        exact = weight[part].astype(np.float64)
        off += float(np.square(exact - plan.grid.decoded(plan.grid.codes(weight, part), weight.dtype, part)).sum())
        size += float(np.square(exact).sum())
    return off / size if size > 0 else 0.0


def _observe(ctx: Context, weights: Sequence[Sequence[Plan]], memory: int, found: Sequence[Losses]) -> None:
    """Put the errors of layers in the place of those of weights, where they can be had."""
    readers = [readers_of(plans[0], memory) for plans in weights]
    known = [(i, views) for i, views in enumerate(readers) if not isinstance(views, str)]
    for (i, views), moments in zip(known, grams(ctx, [views for _, views in known], memory), strict=True):
        if isinstance(moments, str):
            continue
        first = weights[i][0]
        task = Task(first.tensor.numpy(), first.grid, views[0], moments)
        errors = [task.error(plan.grid) for plan in weights[i]]
        if any(errors):
            found[i].layer = errors


def _measure(ctx: Context, form: DecodeForm, plans: Sequence[Plan], losses: Losses, outputs: Outputs) -> None:
    """The squared errors of the outputs; by those of the layer where they are not measured."""
    bits = [plan.grid.alphabet.bits for plan in plans]
    base = next((i for i, each in enumerate(bits) if each >= LEAST_BITS), len(bits) - 1)
    measured = {
        i: outputs.error_after(partial(store, ctx, form, [plan]), SAMPLES) ** 2
        for i, plan in enumerate(plans)
        if i == base or bits[i] < MEASURED_BITS
    }
    losses.is_seen = measured[base] > 0 or losses.weight[base] == 0
    if measured[base] > 0 and losses.weight[base] > 0:
        own = losses.layer if losses.layer[base] > 0 else losses.weight
        share = measured[base] / own[base]
        losses.influence = measured[base] / losses.weight[base]
        losses.outputs = [measured.get(i, share * error) for i, error in enumerate(own)]
