"""How far activations reach, channel by channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...ir import Value
from ..calibrate.stream import Observer, observe
from ..manager.context import Context
from .scales import Role, Touch
from .units import Units

Array = np.ndarray[Any, np.dtype[Any]]
Float64 = NDArray[np.float64]


class Reach:
    """The largest finite absolute number of every element along one axis, in all samples."""

    def __init__(self, axis: int, size: int) -> None:
        self.axis = axis
        self.reach: Float64 = np.zeros(size)

    def update(self, array: Array) -> None:
        """Take one sample into account."""
        rest = tuple(axis for axis in range(array.ndim) if axis != self.axis)
        numbers = np.abs(array)
        found = numbers.max(axis=rest, initial=0, where=np.isfinite(numbers))
        self.reach = np.maximum(self.reach, found)

    def merge(self, other: Reach) -> None:
        """Take into account what another has seen."""
        self.reach = np.maximum(self.reach, other.reach)

    @property
    def logs(self) -> Float64:
        """In powers of two; -inf where all was zero."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log2(self.reach))


def reach_of_inputs(ctx: Context, units: Units, purpose: str) -> dict[Touch, Float64]:
    """log2 of how far the channels reach that weights read; nothing of values that cannot be observed."""
    seen: dict[Touch, Reach] = {}
    observers: dict[Value, list[Observer]] = {}
    for touch in units.touches:
        if touch.role is Role.READS:
            seen[touch] = Reach(touch.axis.axis, len(units.numbers[touch.axis]))
            observers.setdefault(touch.axis.value, []).append(seen[touch])
    blind = set(observe(ctx, observers, purpose=purpose)) if observers else set()
    return {touch: each.logs for touch, each in seen.items() if touch.axis.value not in blind}
