"""The choice of factors: ranges of channels are balanced between what makes them and what reads them.

A unit whose channels reach up to a (the weights that make them: Nagel et al. 2019, or the activations: Xiao et al.
2023) and meet weights up to b gets the factor s = a^alpha / b^(1 - alpha), so that a/s = b s for alpha = 1/2. Factors
are powers of two, by which constants are scaled without rounding, and what is common to a group is left out: only the
differences between channels matter to a quantizer. Weights between two groups take part in both, so that the choice
goes around the groups until nothing changes; it starts from the model as it is, and so what it ends in stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...ir import Value
from ...ir.analysis.coupling.axes import Axis
from .expected import ALPHAS, Expected, Reach, best
from .scales import Role, Touch
from .units import Units

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
LIMIT = 40
"""The largest power of two of a factor."""
ROUNDS = 100
SLACK = 1e-3
"""Powers change if the balance asks for more than half of one, and this."""


@dataclass(frozen=True)
class Choice:
    """The powers of two by unit, and by group how far the ranges of its channels lay apart, in powers of two, before
    and after."""

    powers: Int64
    spread: Mapping[int, tuple[float, float]]


class Balance:
    """Ranges of the constants, in powers of two, and the factors so far."""

    def __init__(self, units: Units, reach: Mapping[Axis, Reach] | None, alpha: float | None) -> None:
        """`reach` of the activations that weights read, None to look at weights alone."""
        self.units, self.alpha = units, alpha
        self.powers = np.zeros(len(units.frozen), np.int64)
        self.watches = reach is not None
        self.reach = dict(reach or {})
        self._by_constant: dict[Value, list[Touch]] = {}
        for touch in units.once:
            if touch.role is not Role.FOLLOWS:
                self._by_constant.setdefault(touch.constant, []).append(touch)
        self._logs = {constant: _log_sizes(constant, touches) for constant, touches in self._by_constant.items()}
        self._of = {touch: units.of(touch) for touch in units.touches}

    def groups(self) -> dict[int, list[Touch]]:
        """The touches of each group of which something can be scaled."""
        found: dict[int, list[Touch]] = {}
        for touch in self.units.touches:
            for group in np.unique(self.units.groups[self._of[touch]]):
                found.setdefault(int(group), []).append(touch)
        return {
            group: touches
            for group, touches in found.items()
            if {Role.MAKES, Role.READS} <= {touch.role for touch in touches}
        }

    def ranges(self, touches: Sequence[Touch]) -> tuple[Float64, Float64]:
        """log2 of what makes each unit and of what reads it, with the factors so far."""
        made, read = np.full(len(self.powers), -np.inf), np.full(len(self.powers), -np.inf)
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            for touch in touches:
                if touch.role is Role.MAKES and not self.watches:
                    self._take(made, touch)
                elif touch.role is Role.READS:
                    self._take(read, touch)
                    if touch.axis in self.reach:
                        numbers = self.units.numbers[touch.axis]
                        np.maximum.at(made, numbers, self.reach[touch.axis].logs - self.powers[numbers])
        return made, read

    def expected(self, touches: Sequence[Touch]) -> dict[Touch, Expected]:
        """What the errors of the layers among the readers follow from."""
        seen = [touch for touch in touches if touch.role is Role.READS and touch.axis in self.reach]
        found = {touch: Expected.of(touch, self.reach[touch.axis]) for touch in seen}
        return {touch: layer for touch, layer in found.items() if layer is not None}

    def _take(self, into: Float64, touch: Touch) -> None:
        logs = self._logs[touch.constant]
        for other in self._by_constant[touch.constant]:
            logs = logs + other.power * self.powers[self._of[other]]
        if touch.power != (1 if touch.role is Role.READS else -1):  # a divisor
            logs = -logs
        index = self._of[touch]
        axes = tuple(axis for axis, size in enumerate(index.shape) if size == 1)
        np.maximum.at(into, index.reshape(-1), logs.max(axis=axes, keepdims=True, initial=-np.inf).reshape(-1))


def _log_sizes(constant: Value, touches: Sequence[Touch]) -> Float64:
    """log2 of the largest absolute numbers of a constant, along the axes by which it is scaled."""
    assert constant.const is not None
    array = np.abs(constant.const.numpy())
    shapes = [touch.index.shape for touch in touches]
    scaled = {back for shape in shapes for back in range(1, len(shape) + 1) if shape[-back] > 1}
    rest = tuple(axis for axis in range(array.ndim) if array.ndim - axis not in scaled)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log2(array.max(axis=rest, keepdims=True, initial=0).astype(np.float64)))


def offsets(made: Float64, read: Float64, alpha: float) -> Float64:
    """log2 of the factors that balance elements, less the median; NaN where one is zero, NaN or Inf."""
    with np.errstate(invalid="ignore"):
        wanted = np.where(np.isfinite(made) & np.isfinite(read), alpha * made - (1 - alpha) * read, np.nan)
    known = wanted[np.isfinite(wanted)]
    return np.asarray(wanted - np.median(known) if known.size else wanted)


def to_powers(off: Float64) -> Int64:
    """The nearest powers of two, 0 for NaN."""
    return np.where(np.abs(off) > 0.5 + SLACK, np.rint(np.nan_to_num(off)), 0).astype(np.int64)


def choose(balance: Balance, held: Int64) -> Choice:
    """The factors; the units `held` have none."""
    free = balance.units.free
    free[held] = False
    groups = {}
    for group, touches in balance.groups().items():
        mine = np.flatnonzero((balance.units.groups == group) & free)
        alpha = _alpha(balance, touches, mine) if len(mine) else None
        if alpha is not None:
            groups[group] = (touches, mine, alpha)
    spread: dict[int, tuple[float, float]] = {}
    for turn in range(ROUNDS):
        changed = False
        for group, (touches, mine, alpha) in groups.items():
            made, read = balance.ranges(touches)
            off = offsets(made[mine], read[mine], alpha)
            if np.isnan(off).all():
                continue
            width = float(np.nanmax(off) - np.nanmin(off))
            spread[group] = (width, width) if not turn else (spread[group][0], width)
            steps = to_powers(off)
            balance.powers[mine] += steps
            changed |= bool(steps.any())
        if not changed:
            break
    return Choice(balance.powers, spread)


def _alpha(balance: Balance, touches: Sequence[Touch], mine: Int64) -> float | None:
    """The exponent for one group: as given, 1/2 for weights alone, else what is expected to leave the least error; None
    if no factors save any."""
    if balance.alpha is not None or not balance.watches:
        return 0.5 if balance.alpha is None else balance.alpha
    made, read = balance.ranges(touches)

    def powers_for(alpha: float) -> dict[Touch, Int64]:
        powers = np.zeros(len(balance.powers), np.int64)
        powers[mine] = to_powers(offsets(made[mine], read[mine], alpha))
        return {touch: powers[balance.units.numbers[touch.axis]] for touch in layers}

    layers = balance.expected(touches)
    found = best(layers, ALPHAS, powers_for)
    return None if found is None else found[0]
