"""Carrying out picks: for good, with all that is to be said, or for a look at the outputs."""

from __future__ import annotations

from collections.abc import Sequence

from ..manager.context import Context
from .allocate import Pick
from .apply import Applied, apply
from .measure import Results, outputs
from .plan import Plan
from .study import Study
from .table import refused, told


def outputs_with(ctx: Context, plan: Plan, picks: Sequence[Pick], samples: int) -> Results:
    """The outputs with some picks, which are then taken back."""
    checkpoint = ctx.checkpoint()
    apply(ctx, plan, [pick for pick in picks if pick.choice is not None], probe=True)
    found = outputs(ctx, samples)
    ctx.rollback(checkpoint)
    return found


def carry_out(
    ctx: Context, plan: Plan, studies: Sequence[Study], picks: Sequence[Pick], *, in_one_go: bool = False
) -> None:
    """Rewrite the model, and say what was factorized and why the rest stays."""
    chosen = [pick for pick in picks if pick.choice is not None]
    done: list[Applied] = apply(ctx, plan, chosen, in_one_go=in_one_go)
    taken = {id(study) for pick in chosen for study in pick.studies}
    for study in studies:
        if id(study) not in taken:
            refused(ctx, study, _why(plan, study))
    told(ctx, plan, done)


def _why(plan: Plan, study: Study) -> str:
    if study.site.kind == "table" and plan.goal != "bytes":
        return "a table has no MACs to save: a goal for bytes factorizes it"
    if not study.is_reached:
        return "no output of a sample depends on it, so that its error cannot be seen"
    if not study.choices:
        how = "here" if plan.latency == "measure" else "by the estimate" if plan.is_timed else ""
        return f"nothing costs at most {plan.share:.0%} of it" + (f" and is faster {how}" if how else "")
    least = min(study.choices, key=lambda one: one.error)
    ranks = " ".join(map(str, least.ranks))
    own = least.error**0.5
    return f"the goal is met without: its own error would be {own:.2g} at best ({least.method}, rank {ranks})"
