"""The pass `equalize`: options, and what it says of its choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...ir import Graph
from ..calibrate.stream import samples_of
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from .activations import reach_of_inputs
from .apply import out_of_range, powers_of, rename, scale
from .choose import Balance, Choice, choose
from .scales import Role, Touch
from .units import Units, find_units

TURNS = 4


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
    alpha: float = option(0.5, "how much goes from what is read into the weights that read it", low=0, high=1)

    def run(self, graph: Graph, ctx: Context) -> None:
        """Choose and move the factors, until nothing is left to move."""
        watches = self.criterion == "activations" or (self.criterion == "auto" and ctx.samples is not None)
        if watches:
            samples_of(ctx, self._purpose)
        for turn in range(TURNS):
            if not self._once(ctx, watches, is_first=not turn):
                return

    @property
    def _purpose(self) -> str:
        return f"equalize{{criterion={self.criterion}}}"

    def _once(self, ctx: Context, watches: bool, is_first: bool) -> bool:
        units = find_units(ctx.model, ctx.shapes(), ctx.selects)
        reach = reach_of_inputs(ctx, units, self._purpose) if watches else None
        balance, choice, held = _settled(units, reach, self.alpha)
        changed = powers_of(units, choice.powers)
        if is_first:
            _explain(ctx, balance, choice, held)
        if changed:
            rename(ctx, units, choice.powers)
            scale(ctx, changed)
        return bool(changed)


def _settled(units: Units, reach: dict[Touch, np.ndarray] | None, alpha: float) -> tuple[Balance, Choice, np.ndarray]:
    """The choice without the units whose constants would leave their range."""
    held = np.zeros(0, np.int64)
    while True:
        balance = Balance(units, reach, alpha)
        choice = choose(balance, held)
        more = out_of_range(units, choice.powers)
        if not len(more):
            return balance, choice, held
        held = np.union1d(held, more)


def _explain(ctx: Context, balance: Balance, choice: Choice, held: np.ndarray) -> None:
    units, free, done = balance.units, balance.units.free, 0
    groups = balance.groups()
    for group, touches in groups.items():
        mine = np.flatnonzero(units.groups == group)
        subject = f"{_names(touches, Role.MAKES)} -> {_names(touches, Role.READS)}"
        powers = choice.powers[mine]
        if powers.any():
            done += 1
            before, after = choice.spread[group]
            words = (
                f"{np.count_nonzero(powers)} of {len(mine)} channels by 2^{powers.min()} to 2^{powers.max()}: "
                f"their ranges lay within 2^{before:.1f}, and lie within 2^{after:.1f}"
            )
            ctx.remarks.applied(subject, words, rule="equalize")
        elif not free[mine].any():
            ctx.remarks.missed(subject, next(filter(None, (units.frozen[unit] for unit in mine))), rule="frozen")
        elif np.isin(mine, held).any():
            ctx.remarks.missed(subject, "its constants would leave the range of their type", rule="range")
    if not groups:
        ctx.remarks.missed("model", "no channels that constants both make and read", rule="nothing")
    elif not done:
        ctx.remarks.missed("model", "the ranges of all channels that can be rescaled are balanced", rule="balanced")


def _names(touches: list[Touch], role: Role) -> str:
    names = list(dict.fromkeys(touch.constant.name for touch in touches if touch.role is role))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
