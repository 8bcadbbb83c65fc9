"""A budget of bytes, spent so that the outputs err least: an exact multiple-choice knapsack over the types of weights.

Errors of weights are taken to add up in squares, so the loss of a choice is the sum of squared errors that each weight
alone makes (`losses`). Its cost are the bytes of codes, scales and zero points, and about those of the nodes that
decode them. Tables that unpack codes and the like are shared, and paid for once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from ....errors import UserError
from ....ir import Tensor
from ....ir.dtypes import is_float
from ...manager.context import Context
from ...manager.units import show_size
from ...manager.weights import Reason
from ..decode import DecodeForm
from ..plan import Plan, Refusal
from ..static.opened import is_quantized
from ..static.trial import Outputs
from ..weight_only import held_constants
from .knapsack import Option, Solution, solve
from .losses import Judge, Losses, first_samples, held_out, losses_of
from .options import Precision
from .table import add_row, type_of

QUANTIZED = "it is quantized already: a budget is spent once"


def spent(
    ctx: Context, form: DecodeForm, plans: Sequence[Plan], others: Callable[[Plan], list[Plan]], precision: Precision
) -> list[Plan | Refusal]:
    """For every weight one of its types, or to stay in float, such that all constants that were float fit into the
    budget. UserError if they do not fit at all."""
    if is_quantized(ctx.model):
        ctx.remarks.missed("model", QUANTIZED, rule="budget")
        return [Refusal(Reason.PRECISION, hint=QUANTIZED) for _ in plans]
    if not plans:
        return []
    weights = [others(plan) or [plan] for plan in plans]
    judge = None
    if ctx.samples is not None and ctx.backend is not None:
        rounds = precision.rounds and len(list(islice(ctx.feeds(), 2))) == 2  # one to fit, one to judge
        samples = held_out(ctx) if rounds else first_samples(ctx)
        judge = Judge(ctx, form, Outputs(ctx, samples, "budget"), precision.memory, rounds)
    losses = losses_of(weights, judge)
    items = [_priced(form, each, own) for each, own in zip(weights, losses, strict=True)]
    picks = _within(ctx, precision, plans, items)
    chosen: list[Plan | Refusal] = []
    for each, own, prices, pick in zip(weights, losses, items, picks, strict=True):
        options = [one.option for one in prices]
        add_row(ctx, each, own, options, pick)
        chosen.append(each[pick] if pick < len(each) else _kept(each, options))
    return chosen


def _kept(plans: Sequence[Plan], options: Sequence[Option]) -> Refusal:
    hint = f"the budget has room for it; in {type_of(plans[-1])} it would take {options[-2].cost} bytes"
    return Refusal(Reason.PRECISION, hint=hint)


class _Priced(NamedTuple):
    """An option, and what it needs that others may need too."""

    option: Option
    shared: Mapping[str, int]


def _priced(form: DecodeForm, plans: Sequence[Plan], losses: Losses) -> list[_Priced]:
    """The types of a weight, and float."""
    written = [plan.written(form) for plan in plans]
    found = [_Priced(Option(one.mostly, loss), one.shared) for one, loss in zip(written, losses.outputs, strict=True)]
    return [*found, _Priced(Option(plans[0].tensor.nbytes, 0.0), {})]


def _within(ctx: Context, precision: Precision, plans: Sequence[Plan], items: list[list[_Priced]]) -> tuple[int, ...]:
    """The best choice; a remark says what it takes."""
    assert precision.budget is not None
    total = sum(held.nbytes for held in _floats(ctx))
    others = total - sum(plan.tensor.nbytes for plan in plans)
    room = precision.budget.room(total)
    solution, shared = _solved(items, room - others)
    taken = others + shared + solution.cost
    if taken > room:
        raise UserError(
            f"budget={precision.budget}: that is {room} bytes, and float constants take {taken} of {total} at least"
        )
    proven = "no choice is better" if solution.is_optimal else f"none is below {solution.bound**0.5:.3g}"
    words = f"about {show_size(taken)} of {show_size(room)} taken, of {show_size(total)} in float"
    ctx.remarks.applied("model", f"{words}; expected error {solution.loss**0.5:.3g}, {proven}", rule="budget")
    return solution.picks


def _solved(items: Sequence[Sequence[_Priced]], room: int) -> tuple[Solution, int]:
    """The best choice within `room`, and the bytes of what is shared in it; the smallest if none fits. First all that
    may be shared is paid for, then, with what that choice needs, only that."""
    needed = _needs(items, [range(len(item)) for item in items])
    found = _solve(items, room, needed) or _smallest(items)
    needed = _needs(items, [[pick] for pick in found.picks])
    return _solve(items, room, needed) or found, sum(needed.values())


def _solve(items: Sequence[Sequence[_Priced]], room: int, shared: Mapping[str, int]) -> Solution | None:
    """The best choice of options that need nothing but what is `shared`."""
    allowed = [
        [i for i, one in enumerate(item) if np.isfinite(one.option.loss) and one.shared.keys() <= shared.keys()]
        for item in items
    ]
    options = [[item[i].option for i in each] for item, each in zip(items, allowed, strict=True)]
    found = solve(options, room - sum(shared.values()))
    if found is None:
        return None
    return replace(found, picks=tuple(each[pick] for each, pick in zip(allowed, found.picks, strict=True)))


def _smallest(items: Sequence[Sequence[_Priced]]) -> Solution:
    finite = [[(one.option, i) for i, one in enumerate(item) if np.isfinite(one.option.loss)] for item in items]
    least = [min(each) for each in finite]
    loss = sum(option.loss for option, _ in least)
    return Solution(tuple(i for _, i in least), sum(option.cost for option, _ in least), loss, loss)


def _needs(items: Sequence[Sequence[_Priced]], picks: Sequence[Iterable[int]]) -> dict[str, int]:
    """What some options of items share, and its bytes."""
    return {
        key: size
        for item, each in zip(items, picks, strict=True)
        for pick in each
        for key, size in item[pick].shared.items()
    }


def _floats(ctx: Context) -> list[Tensor]:
    """The float constants of the model, each once."""
    held = {id(one): one for _, _, one in held_constants(ctx.model) if is_float(one.dtype)}
    return list(held.values())
