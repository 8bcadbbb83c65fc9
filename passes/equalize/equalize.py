"""The pass `equalize`: options, and the turns of choosing and scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...ir import Graph
from ...ir.analysis.coupling.axes import Axis
from ..calibrate.stream import samples_of
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from .activations import reach_of_inputs
from .apply import out_of_range, powers_of, rename, scale
from .choose import Balance, Choice, choose
from .expected import Reach
from .explain import explain
from .insert import insert_factors
from .units import Units, find_units

Int64 = NDArray[np.int64]
PURPOSE = "equalizing activations"
TURNS = 8


@dataclass(frozen=True)
class Equalize(Pass):
    """Rescale channels between what makes them and what reads them, so that they reach equally far.

    Quantization with one scale for all channels of a value, or all inputs of a layer, loses channels that are much
    smaller than others. A factor for each channel can be moved from the layer that makes it into those that read it,
    through whatever a positive factor passes through. All factors are powers of two: constants are scaled without
    rounding, and so are activations, up to underflow and overflow.
    """

    name: ClassVar[str] = "equalize"
    effect: ClassVar[Effect] = Effect.ROUNDING

    criterion: Literal["auto", "weights", "activations"] = option(
        "auto", "ranges of what: weights alone, or activations on sample data against weights; auto: what there is"
    )
    alpha: float | None = option(
        None, "how much goes into the weights that read; with data chosen by the error expected of 8 bits, else 0.5",
        low=0, high=1,
    )  # fmt: skip

    insert: bool = option(False, "put a Mul before layers whose input takes no factor in; for activations")

    def __post_init__(self) -> None:
        """UserError for options that contradict each other."""
        if self.insert and self.criterion == "weights":
            raise UserError("equalize: insert=true looks at activations: criterion=weights cannot be given")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Choose and move the factors, until nothing is left to move."""
        watches = self.insert or self.criterion == "activations"
        if watches:
            samples_of(ctx, PURPOSE)
        watches |= self.criterion == "auto" and ctx.samples is not None
        reach: dict[Axis, Reach] | None = None
        for turn in range(TURNS):
            units = find_units(ctx.model, ctx.shapes(), ctx.selects)
            if watches and reach is None:
                reach = reach_of_inputs(ctx, units, PURPOSE)
            balance, choice, held = _settled(units, reach, self.alpha)
            changed = powers_of(units, choice.powers)
            if not turn:
                explain(ctx, balance, choice, held)
            if changed:
                rename(ctx, units, choice.powers)
                scale(ctx, changed)
                for axis, each in (reach or {}).items():
                    balance.reach[axis] = each.scaled(choice.powers[units.numbers[axis]])
            more = insert_factors(ctx, balance) if self.insert and not changed else {}
            if not changed and not more:
                return
            reach = balance.reach | more if watches else None


def _settled(units: Units, reach: dict[Axis, Reach] | None, alpha: float | None) -> tuple[Balance, Choice, Int64]:
    """The choice without the units whose constants would leave their range."""
    held = np.zeros(0, np.int64)
    while True:
        balance = Balance(units, reach, alpha)
        choice = choose(balance, held)
        more = out_of_range(units, choice.powers)
        if not len(more):
            return balance, choice, held
        held = np.union1d(held, more)
