"""How far activations reach, channel by channel."""

from __future__ import annotations

from ...ir import Value
from ...ir.analysis.coupling.axes import Axis
from ..calibrate.stream import Observer, observe
from ..manager.context import Context
from .expected import Reach
from .scales import Role
from .units import Units


def reach_of_inputs(ctx: Context, units: Units, purpose: str) -> dict[Axis, Reach]:
    """How far the axes reach that weights read; nothing of values that cannot be observed."""
    axes = dict.fromkeys(touch.axis for touch in units.touches if touch.role is Role.READS)
    seen = {axis: Reach(axis.axis, len(units.numbers[axis])) for axis in axes}
    observers: dict[Value, list[Observer]] = {}
    for axis, each in seen.items():
        observers.setdefault(axis.value, []).append(each)
    blind = set(observe(ctx, observers, purpose=purpose)) if observers else set()
    return {axis: each for axis, each in seen.items() if axis.value not in blind}
