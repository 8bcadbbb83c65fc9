"""What factors are to be near to: the weight itself, or, of a layer whose input has changed, what makes up for that.

The layer sees the input x~ that the model has after all factorizations before it. The weights W* that best give the
original output from x~ follow from moments, by ridge regression towards W. Few samples fit too well: so the ridge is
the one that does best on every other sample with weights from those between, and where none does better than W, W
stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Model, Node, Value
from ...ir.analysis.linear import Linear, linear_of
from ..calibrate import stages
from ..calibrate.halves import Halves
from ..calibrate.recorded import Recorded
from ..calibrate.refit import Refit
from ..calibrate.stream import Observer, observe, observe_pairs
from ..manager.context import Context
from .allocate import Pick
from .factors import Float64, matrices, ridged
from .plan import Plan

LEAST = 1e-9
"""The least ridge: where all rows are the same, their noise makes none necessary, and moments cannot be inverted."""


@dataclass(frozen=True)
class Target:
    """What the factors of one pick are to be near to: kernel arrays in a norm, and means for the bias."""

    kernels: list[Float64]
    gram: Float64 | None
    fit: Refit | None = None


def first_node(pick: Pick) -> Node:
    """The first node of the first reading."""
    return pick.studies[0].site.readers[0].first


def observed(
    ctx: Context, before: Model, known: Recorded, stage: Sequence[Pick], olds: dict[Node, Linear | None]
) -> list[tuple[Pick, Halves | None]]:
    """The picks of a stage with the moments of before and now, where they can be had."""
    fits: list[tuple[Pick, Halves | None]] = []
    pairs: dict[tuple[Value, Value], list[Halves]] = {}
    for pick in stage:
        old, new = olds[first_node(pick)], linear_of(first_node(pick))
        if old is None or new is None or Halves.nbytes_for(old, new) > stages.MEMORY:
            fits.append((pick, None))
            continue
        fit = Halves(old, new)
        pairs.setdefault((old.x, new.x), []).append(fit)
        fits.append((pick, fit))
    recorded = {pair: found for pair, found in pairs.items() if pair[0] in known}
    others = {pair: found for pair, found in pairs.items() if pair not in recorded}
    if recorded:
        observe(ctx, _by_value(known, recorded), purpose="refit")
    if others:
        observe_pairs(ctx, before, others, purpose="refit")
    return fits


def _by_value(known: Recorded, pairs: dict[tuple[Value, Value], list[Halves]]) -> dict[Value, list[Observer]]:
    found: dict[Value, list[Observer]] = {}
    for (old, new), fits in pairs.items():
        found.setdefault(new, []).append(known.beside(old, fits))
    return found


def target_of(plan: Plan, pick: Pick, halves: Halves | None) -> Target:
    """The target of a pick."""
    kernels = [study.kernel for study in pick.studies]
    fit = None if halves is None else halves.whole()
    if halves is None or fit is None or not fit.count:
        return Target(kernels, pick.studies[0].gram)
    least = max(fit.ridge() if plan.ridge is None else plan.ridge, LEAST)
    gram = ridged(fit.second / fit.count, least)
    dense = np.concatenate([matrices(kernel) for kernel in kernels], axis=2)
    ridge = halves.best_ridge(dense, least)
    if ridge is None:
        return Target(kernels, gram, fit)
    wanted, _ = fit.solve(dense, ridge=ridge, bias=False)
    parts = np.split(wanted, np.cumsum([kernel.shape[1] for kernel in kernels])[:-1], axis=2)
    made = [part.swapaxes(1, 2).reshape(kernel.shape) for part, kernel in zip(parts, kernels, strict=True)]
    return Target(made, gram, fit)
