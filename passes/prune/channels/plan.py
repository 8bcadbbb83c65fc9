"""The plan: what the options ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .widths import Align

Criterion = Literal[
    "l1", "l2", "geometric-median", "bn-scale", "mean-activation", "activation-frequency", "redundancy", "wanda", "obs",
    "zero", "random",
]  # fmt: skip
Allocation = Literal["layer", "global", "sensitivity", "output-first"]
ACTIVITY = ("mean-activation", "activation-frequency")
DATA_CRITERIA = ("wanda", "obs", "redundancy", *ACTIVITY)
LEVELS = ("l1", "l2", "bn-scale", *ACTIVITY)
"""Criteria that have a scale of their own, which a threshold can speak of."""


@dataclass(frozen=True)
class Plan:
    """What is asked for; at least one goal is given, but for criterion=zero."""

    unit: Literal["channel", "head"]
    criterion: Criterion
    allocation: Allocation
    sparsity: float | None
    macs: float | None
    bytes_: float | None
    align: Align
    repair: bool
    ridge: float | None
    exclude: tuple[str, ...]
    error: float | None = None
    steps: int = 1
    threshold: float | None = None
    statistics: bool = False
    """Whether BatchNormalizations are given new statistics, where nothing is refitted."""

    @property
    def exact_align(self) -> int:
        """Of what goes is told one by one (dead units, those up to a threshold), only the multiples that were asked
        for keep some."""
        return 1 if self.align == "auto" else self.align

    @property
    def has_goal(self) -> bool:
        """Whether it is said how much goes."""
        return any(goal is not None for goal in (self.sparsity, self.macs, self.bytes_, self.error, self.threshold))
