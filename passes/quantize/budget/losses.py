"""What each type costs: how far the outputs move if one weight alone is stored in it.

With sample data the squared error of a layer y = x W in one type is E|x dW|^2 over E|x W|^2, from second moments of
its input on samples that were held out; of weights that are no such matrices, and without data, |dW|^2 over |W|^2. What
the outputs make of it is measured with types of less than 8 bits: the rel-L2 of the outputs with that weight alone in
them. Wider types follow from the least of 4 bits or more: squared errors of outputs and layer are proportional as
long as both are small. Where weights are to be rounded by outputs, GPTQ foretells what that will gain.

What the data never reach (branches not taken) says nothing about its weights: for them the error of the weight counts,
times what the middle one of the others makes of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from statistics import median

import numpy as np

from ...manager.context import Context, Feed
from ..blocks import parts
from ..decode import DecodeForm
from ..plan import Plan
from ..rewrite import store
from ..rounding.choice import Task
from ..rounding.observed import HELD_OUT, grams
from ..rounding.run import readers_of
from ..static.trial import Outputs

FEW, MANY = 4, 64
"""Samples on which outputs are measured for every weight, at least and at most: as many as there are in"""
INPUTS = 1 << 20
"""so many bytes, as one row of a small input tells little."""
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


@dataclass(frozen=True)
class Judge:
    """What measures: how far `outputs` of the model as it is move; `memory` are bytes of second moments that may be
    held at a time, `rounds` says that weights will be rounded by outputs."""

    ctx: Context
    form: DecodeForm
    outputs: Outputs
    memory: int
    rounds: bool = False

    @cached_property
    def samples(self) -> int:
        """On which every weight is measured."""
        return _samples_for(self.ctx)


def first_samples(ctx: Context) -> Iterator[Feed]:
    """Those to measure on."""
    return islice(ctx.feeds(), _samples_for(ctx))


def held_out(ctx: Context) -> Iterator[Feed]:
    """Those that no rounding is fitted to."""
    return islice(ctx.feeds(), 1, 1 + HELD_OUT * _samples_for(ctx), HELD_OUT)


def _samples_for(ctx: Context) -> int:
    first = next(ctx.feeds(), {})
    size = sum(np.asarray(array).nbytes for array in first.values())
    return max(FEW, min(MANY, INPUTS // max(1, size)))


def losses_of(weights: Sequence[Sequence[Plan]], judge: Judge | None) -> list[Losses]:
    """For the plans of every weight, narrow ones first, what they cost; without a judge, in errors of the weights."""
    found = []
    for plans in weights:
        errors = [_weight_error(plan) for plan in plans]
        found.append(Losses(errors, errors, errors))
    if judge is None:
        return found
    tasks = _tasks(weights, judge)
    for plans, losses, task in zip(judge.ctx.progress.track(weights, "sensitivity"), found, tasks, strict=True):
        rounded = plans if task is None else _by_layer(plans, losses, task, judge.rounds)
        _measure(rounded, losses, judge)
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


def _tasks(weights: Sequence[Sequence[Plan]], judge: Judge) -> Iterator[Task | None]:
    """Every weight with the second moments of what its layer reads; None where there are none."""
    readers = [readers_of(plans[0], judge.memory) for plans in weights]
    moments = grams(judge.ctx, [views for views in readers if not isinstance(views, str)], judge.memory)
    for plans, views in zip(weights, readers, strict=True):
        if isinstance(views, str):
            yield None
            continue
        seen, first = next(moments), plans[0]
        yield None if isinstance(seen, str) else Task(first.tensor.numpy(), first.grid, views[0], seen)


def _by_layer(plans: Sequence[Plan], losses: Losses, task: Task, rounds: bool) -> Sequence[Plan]:
    """The plans, rounded if that is asked for; the errors of the layer take the place of those of the weight."""
    made = []
    for plan in plans:
        own = replace(task, grid=plan.grid)
        is_narrow = plan.grid.alphabet.bits <= MEASURED_BITS
        made.append(replace(plan, grid=own.best("gptq", "none").grid) if rounds and is_narrow else plan)
    errors = [task.error(plan.grid) for plan in made]
    if any(errors):
        losses.layer = errors
    return made


def _measure(plans: Sequence[Plan], losses: Losses, judge: Judge) -> None:
    """The squared errors of the outputs; by those of the layer where they are not measured."""
    bits = [plan.grid.alphabet.bits for plan in plans]
    base = next((i for i, each in enumerate(bits) if each >= LEAST_BITS), len(bits) - 1)
    measured = {
        i: judge.outputs.error_after(partial(store, judge.ctx, judge.form, [plan]), judge.samples) ** 2
        for i, plan in enumerate(plans)
        if i == base or bits[i] < MEASURED_BITS
    }
    losses.is_seen = measured[base] > 0 or losses.weight[base] == 0
    if measured[base] > 0 and losses.weight[base] > 0:
        own = losses.layer if losses.layer[base] > 0 else losses.weight
        share = measured[base] / own[base]
        losses.influence = measured[base] / losses.weight[base]
        losses.outputs = [measured.get(i, share * error) for i, error in enumerate(own)]
