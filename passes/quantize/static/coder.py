"""What rounding needs of those who let units run in integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...calibrate.ranges import Array
from .emit import Coded
from .units import Unit


class Coder(Protocol):
    """Holds the weights of units in levels, of which the largest is `top`, and lets units run in integers."""

    @property
    def top(self) -> int:
        """The largest absolute level."""
        ...

    def coded(self, unit: Unit) -> Coded:
        """The weight and the bias of a unit."""
        ...

    def recode(self, unit: Unit, coded: Coded) -> None:
        """Take others."""
        ...

    def rounded(self, unit: Unit, x: Array) -> Array:
        """What the input of a unit becomes."""
        ...

    def bias_step(self, unit: Unit) -> float | None:
        """What steps of the weight are multiplied by to be those of the bias; None if that is in float."""
        ...

    def emit(self, units: Sequence[Unit]) -> None:
        """Change the model."""
        ...
