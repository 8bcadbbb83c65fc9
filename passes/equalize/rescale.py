"""The turns of choosing and scaling: factors are moved until nothing is left to move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...ir import Node
from ...ir.analysis.coupling.axes import Axis
from ..manager.context import Context
from .activations import reach_of_inputs
from .apply import out_of_range, powers_of, rename, scale
from .choose import Balance, Choice, choose
from .expected import Reach
from .explain import explain
from .insert import Inserted, insert_factors
from .units import Units, find_units

Int64 = NDArray[np.int64]
PURPOSE = "equalizing activations"
TURNS = 8


@dataclass(frozen=True)
class Rescaled:
    """What was done: the powers of two by which values were divided, axis by axis, and what was inserted."""

    powers: dict[Axis, Int64]
    inserted: list[Inserted]
    seen: Mapping[Axis, Reach] | None
    """How far inputs of weights reached before it, if that was looked at,"""
    reach: Mapping[Axis, Reach] | None
    """and how far they reach now."""


def rescale(
    ctx: Context,
    *,
    watches: bool,
    alpha: float | None = None,
    insert: bool = False,
    fold: bool = True,
    selects: Callable[[Node], bool] | None = None,
    wants: Callable[[Node], bool] = lambda node: True,
    seen: Mapping[Axis, Reach] | None = None,
) -> Rescaled:
    """Move factors between the constants that make channels and those that read them. `watches`: by the reach of
    activations on the sample data, else of weights alone; `fold`: where constants take them in on both sides; `insert`:
    by a Mul where nothing takes them in, before nodes that `wants` names. `selects` tells nodes whose constants may be
    scaled, by default all that the pass may act on. `seen` is how far inputs of weights reach, where that is known."""
    selects = ctx.selects if selects is None else selects
    reach = seen
    inserted: list[Inserted] = []
    scaled: dict[Axis, Int64] = {}
    for turn in range(TURNS):
        units = find_units(ctx.model, ctx.shapes(), selects)
        if watches and reach is None:
            reach = seen = reach_of_inputs(ctx, units, PURPOSE)
        balance, choice, held = _settled(units, reach, alpha)
        changed = powers_of(units, choice.powers) if fold else {}
        if fold and not turn:
            explain(ctx, balance, choice, held)
        if changed:
            for axis, numbers in units.numbers.items():
                if axis.value.const is None and choice.powers[numbers].any():
                    scaled[axis] = scaled.get(axis, 0) + choice.powers[numbers]
            rename(ctx, units, choice.powers)
            scale(ctx, changed)
            for axis, each in (reach or {}).items():
                balance.reach[axis] = each.scaled(choice.powers[units.numbers[axis]])
        new: list[Inserted] = []
        more: dict[Axis, Reach] = {}
        if insert and not changed:
            new, more = insert_factors(ctx, balance, lambda node: selects(node) and wants(node))
            inserted += new
        if not changed and not new:
            break
        reach = balance.reach | more if watches else None
    return Rescaled(scaled, inserted, seen, reach)


def _settled(units: Units, reach: Mapping[Axis, Reach] | None, alpha: float | None) -> tuple[Balance, Choice, Int64]:
    """The choice without the units whose constants would leave their range."""
    held = np.zeros(0, np.int64)
    while True:
        balance = Balance(units, reach, alpha)
        choice = choose(balance, held)
        more = out_of_range(units, choice.powers)
        if not len(more):
            return balance, choice, held
        held = np.union1d(held, more)
