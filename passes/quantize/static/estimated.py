"""Costs estimated from the target's profile: the same on every host, so that the choice is.

A unit of some kind takes `mac` microseconds for a million MACs and `number` for a million numbers that it reads and
writes, each in float and in integers, and every node has a price. `bench/quantize_costs.py` fits the coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod

from ....ir import Value
from ...manager.context import Context
from ..targets.profile import Profile, Role
from .alone import Shape
from .choose import Choice
from .cut import Costs, time_of
from .spelled import STEPS, is_apart
from .units import Unit

THIN = 8
"""Convolutions of fewer input channels are a kind of their own: integer kernels pad channels."""

LEAST_GAIN = 0.1
"""The share of the time of all units that has to be saved: estimates are no more exact than that, as the runtime fuses
and lays out differently what stands around integers, and a model is not to be slower."""


def worthwhile(ctx: Context, choice: Choice, units: Sequence[Unit], costs: Costs) -> Choice:
    """The choice among `units` if it saves enough by estimated times, else none of them, with a remark."""
    before, after = time_of(units, (), costs), time_of(units, frozenset(choice.units), costs)
    if not choice.units or after <= (1 - LEAST_GAIN) * before:
        return choice
    why = f"{after:.4g} us for {before:.4g} us is estimated, which is less than {LEAST_GAIN:.0%} faster"
    suggestion = "latency=measure times the model, latency=off does not look at times"
    ctx.remarks.missed("model", f"nothing runs in integers: {why}", rule="latency", suggestion=suggestion)
    return Choice([], 0.0, choice.sensitivity)


def kind_of(unit: Unit, weight: Shape, shapes: Mapping[Value, Shape]) -> str:
    """Which coefficients apply; `weight` is the shape of the weight of a product, () if it has none."""
    node = unit.node
    if is_apart(unit, shapes):
        return "softmax_apart"
    if unit.rule.role is not Role.COMPUTE:
        return node.op_type
    if node.op_type == "Conv":
        if node.attr("group", 1) > 1:
            return "depthwise" if weight[1] == 1 else "grouped"
        return "thin" if weight[1] < THIN else "dense"
    return "product" if unit.weight >= 0 else "batched"


@dataclass(frozen=True)
class EstimatedCosts:
    """Times by the coefficients of `profile`, at the sizes `shapes` of values."""

    profile: Profile
    shapes: Mapping[Value, Shape]

    def unit(self, unit: Unit) -> tuple[float, float]:
        """Microseconds of a unit in float and in integers; none for kinds without coefficients."""
        as_it_is, spelled, in_integers = self._times(unit)
        return min(as_it_is, spelled), in_integers

    def apart(self, unit: Unit) -> float:
        """Microseconds more of a unit in integers that does not have the layout of integer convolutions."""
        macs, _, weight = work(unit, self.shapes)
        found = self.profile.costs.get(kind_of(unit, weight, self.shapes))
        return 0.0 if found is None else found.apart * macs / 1e6

    def spells(self, unit: Unit) -> bool:
        """Whether a unit in float is faster spelled out."""
        as_it_is, spelled, _ = self._times(unit)
        return spelled < as_it_is

    def _times(self, unit: Unit) -> tuple[float, float, float]:
        """In float as it is, spelled out (infinite where that is unknown), and in integers."""
        macs, numbers, weight = work(unit, self.shapes)
        found = self.profile.costs.get(kind_of(unit, weight, self.shapes))
        if found is None:
            return 0.0, inf, 0.0
        in_float, in_integers = (found.mac[side] * macs / 1e6 + found.number[side] * numbers / 1e6 for side in (0, 1))
        spelled = found.spelled * numbers / 1e6 + STEPS * self.profile.node if found.spelled else inf
        return in_float + self.profile.node, spelled, in_integers + self.profile.node

    def quantize(self, value: Value) -> float:
        """Microseconds of quantizing a value."""
        return self.profile.node + self.profile.quantize * prod(self.shapes[value]) / 1e6

    def decode(self, value: Value) -> float:
        """Microseconds of decoding a value."""
        return self.profile.node + self.profile.decode * prod(self.shapes[value]) / 1e6


def work(unit: Unit, shapes: Mapping[Value, Shape]) -> tuple[float, float, Shape]:
    """MACs of a unit (of a pool: numbers that it looks at), numbers that it reads and writes, and the shape of its
    weight."""
    numbers = float(sum(prod(shapes.get(value, ())) for value in (*unit.activations, *unit.outputs)))
    value = unit.node.input(unit.weight) if unit.weight >= 0 else None
    weight: Shape = () if value is None or value.const is None else value.const.shape
    leaving = prod(shapes.get(unit.outputs[0], ()))
    if unit.rule.role is not Role.COMPUTE:
        looked_at = leaving * prod(unit.node.attr("kernel_shape", [])) if unit.node.is_op("MaxPool") else 0
        return float(looked_at), numbers, weight
    if unit.node.op_type == "Conv":
        return float(leaving * prod(weight[1:])), numbers, weight
    x = shapes.get(unit.inputs[0][1], (1,))
    return float(leaving * (x[-1] if x else 1)), numbers, weight
