"""The plan: what the options ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    align: int
    repair: bool
    ridge: float
    exclude: tuple[str, ...]
    error: float | None = None
    steps: int = 1
    threshold: float | None = None
    statistics: bool = False
    """Whether BatchNormalizations are given new statistics, where nothing is refitted."""

    @property
    def has_goal(self) -> bool:
        """Whether it is said how much goes."""
        return any(goal is not None for goal in (self.sparsity, self.macs, self.bytes_, self.error, self.threshold))
