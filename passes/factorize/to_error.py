"""As cheap as an error of the outputs allows.

The picks along the multipliers are measured without refitting, which is quick, and the cheapest that are within the
error are carried out. Refitting wins some of the error back; how much is seen when it is done, so what may be lost
before it is corrected by that, a few times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..manager.context import Context
from .allocate import Item, Pick, Search
from .carry import carry_out, outputs_with
from .measure import Results, outputs, rel_l2
from .plan import Plan
from .study import Study

REFIT_ROOM = 1.75
"""How much larger the error before refitting may be, at first, than the one that is allowed."""
TRIES = 4
"""How often the model is refitted to meet an error."""
NEAR = 0.85
"""Of the error that is allowed, from where on it is met well enough."""


def to_error(ctx: Context, plan: Plan, studies: Sequence[Study], items: Sequence[Item], before: Results) -> None:
    """Carry out what is cheapest within the error that is allowed; `before` is what the model gives as it is."""
    trial = _Trial(ctx, plan, studies, before)
    search = Search(items, trial.measure)
    error = _refitted(plan.number, search, trial) if plan.refit else math.inf
    if error > plan.number:
        error = trial.carry_out(search.cheapest(plan.number), in_one_go=True)
    if error > plan.number:
        error = trial.carry_out([])
    ctx.remarks.applied("model", f"rel-L2 of the outputs {error:.3g}, of {plan.number:g} allowed", rule="goal")


def _refitted(goal: float, search: Search, trial: _Trial) -> float:
    """Carry out, refitted, what is cheapest of what is tried; the error, infinite if none is within the goal."""
    room, best = REFIT_ROOM, 0.0
    tried: dict[float, list[Pick]] = {}
    for _ in range(TRIES):
        picks = search.cheapest(room * goal)
        if picks in tried.values():
            break
        tried[room] = picks
        error = trial.carry_out(picks)
        if error <= goal:
            best = max(best, room)
        if NEAR * goal <= error <= goal:
            break
        room *= min(2.0, max(0.5, 0.95 * goal / max(error, 1e-12)))
    return trial.carry_out(tried[best]) if best else math.inf


class _Trial:
    """The model with picks that can be taken back."""

    def __init__(self, ctx: Context, plan: Plan, studies: Sequence[Study], before: Results) -> None:
        self._ctx, self._plan, self._studies, self._before = ctx, plan, studies, before
        self._start = ctx.checkpoint()
        self._now: tuple[list[Pick], bool, float] | None = None

    def measure(self, picks: Sequence[Pick]) -> float:
        """The error of the outputs with picks that are not refitted."""
        self._back()
        return rel_l2(self._before, outputs_with(self._ctx, self._plan, picks, len(self._before)))

    def carry_out(self, picks: list[Pick], *, in_one_go: bool = False) -> float:
        """The error of the outputs with picks, which stay."""
        if self._now is None or self._now[:2] != (picks, in_one_go):
            self._back()
            carry_out(self._ctx, self._plan, self._studies, picks, in_one_go=in_one_go)
            self._now = picks, in_one_go, rel_l2(self._before, outputs(self._ctx))
        return self._now[2]

    def _back(self) -> None:
        if self._now is not None:
            self._ctx.rollback(self._start)
            self._now = None
