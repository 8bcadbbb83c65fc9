"""Dynamic quantization of a model: the products with constant weights that are faster in integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....ir import Value
from ...manager.context import Context
from ..static.choose import Choice, choose, fastest
from ..static.cut import Costs, Free, chosen
from ..static.draft import inferred, seen
from ..static.estimated import EstimatedCosts
from ..static.ledger import Ledger
from ..static.opened import PER_CHANNEL, opened
from ..static.quantize_static import Decided
from ..static.settings import Settings, left_out
from ..static.trial import Trials
from ..static.units import Unit, Units
from ..static.upright import turn_weights
from ..targets.profile import profile
from .emit import DynamicEmitter

SAMPLES = 16
EXTREMA = 1.5
"""What finding the range costs, of what quantizing does."""


@dataclass(frozen=True)
class DynamicCosts:
    """Times of units whose inputs are quantized in each run and whose outputs are left in float."""

    static: EstimatedCosts

    def unit(self, unit: Unit) -> tuple[float, float]:
        """Microseconds of a unit in float and in integers."""
        return self.static.unit(unit)

    def quantize(self, value: Value) -> float:
        """Microseconds of quantizing a value: its range is looked for first."""
        return self.static.quantize(value) * (1 + EXTREMA)

    def decode(self, value: Value) -> float:
        """Nothing: sums are decoded where they are made."""
        return 0.0

    def apart(self, unit: Unit) -> float:
        """Nothing: there are products alone."""
        return 0.0

    def spells(self, unit: Unit) -> bool:
        """No: there are products alone."""
        return False


def decide_dynamic(ctx: Context, settings: Settings) -> Decided | None:
    """Which products with constant weights are to run in integers; None if there are none."""
    mark = ctx.rewriter.mark()
    if not opened(ctx, PER_CHANNEL):
        return None
    aim = profile(settings.target)
    turn_weights(ctx)
    units = Units(ctx.model, aim, ctx.shapes(), lambda unit: _not_dynamic(unit) or left_out(ctx, settings, unit))
    emitter = DynamicEmitter(ctx, aim.weight_levels)
    shapes = _shapes(ctx, units.found)
    known = [unit for unit in units.found if unit.inputs[0][1] in shapes]
    costs: Costs = Free() if settings.latency == "off" or not aim.costs else DynamicCosts(EstimatedCosts(aim, shapes))
    if ctx.samples is None or ctx.backend is None:
        ctx.remarks.missed("model", "without sample data the error of the outputs is not looked at", rule="error")
        choice = Choice(chosen(known, costs), float("nan"), {})
    else:
        trials = Trials(ctx, emitter, SAMPLES)
        choice = choose(ctx, known, costs, trials, settings.error, fastest(known, costs, trials))
    Ledger(ctx, known, choice, costs, settings.error, aim).decisions(units.declined, shapes)
    if not choice.units:
        ctx.rewriter.rollback(mark)
        return None
    return Decided(emitter, emitter, choice.units)


def _not_dynamic(unit: Unit) -> str:
    if unit.weight < 0 or not unit.node.is_op("MatMul", "Gemm"):
        return "only products with a constant matrix are quantized dynamically"
    return ""


def _shapes(ctx: Context, units: list[Unit]) -> Mapping[Value, tuple[int, ...]]:
    """Shapes of what units read and make: as inferred, or as in the samples, if there are any."""
    values = list(
        dict.fromkeys(value for unit in units for value in (*unit.activations, *unit.outputs, *unit.node.outputs))
    )
    return inferred(ctx, values) if ctx.samples is None or ctx.backend is None else seen(ctx, values)
