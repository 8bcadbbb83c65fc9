"""What is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import UserError
from ..calibrate.stream import samples_of
from ..manager.context import Context

Goal = Literal["exact", "rank", "energy", "vbmf", "macs", "bytes", "error"]
ALLOCATED = ("macs", "bytes", "error")


@dataclass(frozen=True)
class Plan:
    """The goal with its number, and how to get there."""

    goal: Goal
    number: float
    methods: tuple[str, ...]
    share: float
    whiten: bool
    refit: bool
    refine: int
    shared: bool
    ridge: float | None
    """None: by Ledoit and Wolf."""
    latency: Literal["auto", "measure", "any"]
    exclude: tuple[str, ...]

    @property
    def is_timed(self) -> bool:
        """Whether a choice must be faster by the estimate."""
        return self.latency != "any" and self.goal in ("macs", "error")


def goal_of(given: dict[Goal, float | None]) -> tuple[Goal, float]:
    """The one goal; `exact` if none is given. UserError if there are several."""
    found = {name: number for name, number in given.items() if number is not None}
    if len(found) > 1:
        raise UserError(f"factorize takes one goal, not {' and '.join(found)}")
    return next(iter(found.items()), ("exact", 0.0))


def check(ctx: Context, plan: Plan) -> None:
    """UserError unless there are the data that the plan needs."""
    if plan.goal == "error":
        samples_of(ctx, "error=")
    if plan.whiten:
        samples_of(ctx, "whiten=on")
    if plan.refit:
        samples_of(ctx, "refit=on")
