"""Static quantization of a model: ranges on sample data, the units that pay, and Q and DQ around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ....errors import UserError
from ....ir import Value
from ...manager.context import Context
from ..rounding.options import Rounder
from .affine import TYPES
from .coder import Coder
from .draft import Drafter
from .emit import SIXTEEN_BITS, needed
from .equalized import equalized
from .estimated import EstimatedCosts, worthwhile
from .ledger import Ledger, codings
from .opened import PER_CHANNEL, opened
from .settings import Settings
from .units import Unit
from .upright import turn_weights
from .whole import Whole, not_slower


class Writes(Protocol):
    """Lets units run in integers, and says what that promises."""

    def follow(self, old: Value, new: Value) -> None:
        """Take note that the units read `new` now, which stands for `old`."""
        ...

    def promise(self, units: Sequence[Unit]) -> None:
        """State the local bounds of what `emit` will do."""
        ...

    def emit(self, units: Sequence[Unit]) -> None:
        """Change the model."""
        ...


@dataclass(frozen=True)
class Decided:
    """What is to run in integers. Weights that it takes are left to it by what quantizes the others, which comes first:
    values have their names still, by which bounds are stated. Values may be others by then, as rows of a table are."""

    writes: Writes
    coder: Coder
    units: Sequence[Unit]

    @property
    def weights(self) -> frozenset[Value]:
        """The weights of the units."""
        held = (unit.node.inputs[unit.weight] for unit in self.units if unit.weight >= 0)
        return frozenset(value for value in held if value is not None)

    def carry_out(self, ctx: Context, rounder: Rounder) -> None:
        """Find better levels for weights, and biases; then change the model."""
        units = self._now()
        rounder.units(ctx, self.coder, units)
        self.writes.promise(units)
        self.writes.emit(units)

    def emit(self) -> None:
        """Change the model with the levels that there are."""
        self.writes.emit(self._now())

    def _now(self) -> list[Unit]:
        """The units, with what they read now."""
        units = [unit.now() for unit in self.units]
        for before, after in zip(self.units, units, strict=True):
            for (_, old), (_, new) in zip(before.inputs, after.inputs, strict=True):
                self.writes.follow(old, new)
        return units


def decide_static(ctx: Context, settings: Settings, rounder: Rounder) -> Decided | None:
    """Which units the target is to run in integers, on the sample data; None if there are none."""
    if ctx.samples is None:
        raise UserError("mode=static needs sample data: give --data FILE.npz, or --data random for generated inputs")
    if ctx.backend is None:
        raise UserError("mode=static needs an executor")
    mark, account = ctx.rewriter.mark(), ctx.weights.mark()
    aim = settings.aim
    is_wide = TYPES[aim.activation_type].itemsize > 1
    opsets = (SIXTEEN_BITS, *([PER_CHANNEL] if aim.takes_contrib else [])) if is_wide else (PER_CHANNEL,)
    if not opened(ctx, *opsets):
        return None
    if settings.latency == "measure" and not aim.runs_here:
        raise UserError(f"latency=measure: {aim.title} does not run here: say latency=profile or off")
    whole = Whole(ctx, ctx.backend) if settings.latency == "measure" else None
    turn_weights(ctx)
    drafter = Drafter(ctx, settings, aim, rounder)
    kept = equalized(ctx, settings.equalize, drafter, settings.error)
    draft = drafter.rounded(kept.draft)
    choice = draft.choice
    if whole is not None:
        choice = not_slower(whole, choice, draft.costs, draft.writes, draft.trials, settings.error)
    elif isinstance(draft.times, EstimatedCosts):
        choice = worthwhile(ctx, choice, draft.units, draft.costs)
    choice, in_each_run = draft.settled(choice)
    ledger = Ledger(ctx, draft.units, choice, draft.times, settings.error, aim, in_each_run)
    ledger.decisions(draft.declined, draft.shapes)
    if not choice.units:
        ctx.rewriter.rollback(mark)
        ctx.weights.restore(account)
        return None
    kept.factors.take_back_unused(ctx, choice.units)
    ctx.bounds.extend(kept.factors.statements())
    known = [unit for unit in choice.units if unit not in in_each_run]
    quantized = [value for value in needed(known) if value.const is None]
    ledger.activations(codings(ctx, quantized, draft.emitter.of))
    return Decided(draft.writes, draft.coder(in_each_run), choice.units)
