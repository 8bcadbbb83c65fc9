"""The table of layers: one row for each, with its rank, its cost before and after, its bounds and its errors."""

from __future__ import annotations

from collections.abc import Sequence

from ..manager.context import Context
from ..manager.layer_rows import LayerRow
from .apply import Applied
from .plan import Plan
from .study import Study

BY = "factorize"


def told(ctx: Context, plan: Plan, done: Sequence[Applied]) -> None:
    """Say what was factorized."""
    for one in done:
        study = one.study
        saved = study.bytes - one.bytes_after
        what = f"{one.factors.method} of rank {' '.join(map(str, one.factors.ranks))}"
        together = f", first factor shared by {one.shares}" if one.shares > 1 else ""
        ctx.remarks.applied(
            one.label, f"{one.op_type}: {what}{together}; {_facts(one)}", rule=one.factors.method,
            bytes_at_stake=max(0, int(saved)),
        )  # fmt: skip
        ctx.layers.append(LayerRow(BY, one.label, {
            "op": one.op_type,
            "kept": "factorized",
            "method": one.factors.method,
            "rank": " ".join(map(str, one.factors.ranks)),
            "break_even": study.break_even,
            "saved_bytes": int(saved),
            "macs": int(study.macs),
            "saved_macs": int(study.macs - one.macs_after),
            "sigma_max": one.sigma,
            "sigma_is": "exact" if one.sigma_is_exact else "an upper bound",
            "row_sum": one.row_sum,
            "bias_moved": one.shift,
            "expected_error": one.expected,
            "measured_error": one.measured,
            "why": together.removeprefix(", "),
        }))  # fmt: skip
    if not done:
        ctx.remarks.missed("model", "no weight was factorized")


def refused(ctx: Context, study: Study, reason: str) -> None:
    """Say why a site stays."""
    ctx.remarks.missed(study.site.label, reason, rule="kept", bytes_at_stake=0)
    best = min(study.choices, key=lambda one: one.error, default=None)
    ctx.layers.append(LayerRow(BY, study.site.label, {
        "op": study.site.node.op_type,
        "kept": "as it was",
        "method": best.method if best else "",
        "rank": " ".join(map(str, best.ranks)) if best else "",
        "break_even": study.break_even,
        "saved_bytes": 0,
        "macs": int(study.macs),
        "saved_macs": 0,
        "expected_error": best.error**0.5 if best else None,
        "measured_error": None,
        "why": reason,
    }))  # fmt: skip


def _facts(one: Applied) -> str:
    found = f"norm2(dy) <= {one.sigma:.3g} norm2(x), max abs(dy) <= {one.row_sum:.3g} max abs(x)"
    if one.shift:
        found += f", plus {one.shift:.3g} of the bias"
    measured = "" if one.measured is None else f", {one.measured:.2g} on the data"
    return f"{found}; error {one.expected:.2g}{measured} of the output"
