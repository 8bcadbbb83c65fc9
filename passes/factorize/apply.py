"""Applying choices: all at once, or in order, each refitted to what the original gives.

In order, the layer sees the input x~ that the model has after all factorizations before it. The unconstrained weights
W* that best give the original output from x~ follow from moments (ridge regression), and the factors are those nearest
to W* in the norm of x~: what earlier layers lost is won back as far as the rank allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Model, Node, Value, clone_model
from ...ir.analysis.linear import Linear, all_linear_layers, linear_of
from ..calibrate.recorded import Recorded
from ..calibrate.refit import Refit
from ..calibrate.stream import Observer, observe, observe_pairs
from ..manager.context import Context
from ..manager.weights import Outcome
from .allocate import Pick
from .build import Builder
from .factors import Factors, Float64, matrices
from .facts import local_bounds, output_names, spectral_norm
from .plan import Plan
from .refine import refined
from .shared import scales, split, stacked
from .study import Study, factors_of
from .work import Dims

STAGES = 16
"""Walks through the data at most."""
MEMORY = 1 << 30
"""Bytes of moments of one stage, at most."""


@dataclass(frozen=True)
class Applied:
    """What became of one site: its factors as stored, and how far they are off."""

    study: Study
    factors: Factors
    label: str
    op_type: str
    expected: float
    measured: float | None
    sigma: float
    sigma_is_exact: bool
    row_sum: float
    shift: float
    bytes_after: float
    macs_after: float
    shares: int
    """How many sites have its first factor."""


@dataclass(frozen=True)
class Target:
    """What the factors of one pick are to be near to: kernel arrays in a norm, and means for the bias."""

    kernels: list[Float64]
    gram: Float64 | None
    fit: Refit | None = None


def apply(
    ctx: Context, plan: Plan, picks: Sequence[Pick], *, in_one_go: bool = False, probe: bool = False
) -> list[Applied]:
    """Rewrite the model; `in_one_go` without refit; a `probe` also without refinement and without saying anything."""
    order = {node: i for i, node in enumerate(n for g in ctx.model.graph.walk_graphs() for n in g.nodes)}
    ordered = sorted(picks, key=lambda pick: order[_first(pick)])
    if probe:
        for pick in ordered:
            _probe(ctx, pick)
        return []
    if in_one_go or not plan.refit:
        done: list[Applied] = []
        for pick in ordered:
            target = Target([study.kernel for study in pick.studies], pick.studies[0].gram)
            done += _apply(ctx, plan, pick, target, sweeps=plan.refine)
        return done
    return _in_order(ctx, plan, ordered)


def _probe(ctx: Context, pick: Pick) -> None:
    """Put the factors of a pick in place, to be taken back."""
    choice, studies = pick.choice, pick.studies
    assert choice is not None
    hidden: Value | None = None
    if len(studies) > 1:
        found = _together(studies, [study.kernel for study in studies], studies[0].gram, choice.ranks)
    else:
        found = [studies[0].factors(choice.method, choice.ranks)]
    for study, factors in zip(studies, found, strict=True):
        shift = _shift(study, factors.product(), None)
        builder = Builder(ctx.rewriter, study.site, factors, None if shift is None else shift.reshape(-1), hidden)
        builder.build()
        hidden = builder.hidden
        study.forget()


def _together(
    studies: Sequence[Study], kernels: Sequence[Float64], gram: Float64 | None, ranks: tuple[int, ...]
) -> list[Factors]:
    by = scales(studies)
    joint = factors_of(stacked(kernels, by), gram, "svd", ranks)
    return split(joint, [study.dims.shape[1] for study in studies], by)


def _in_order(ctx: Context, plan: Plan, picks: Sequence[Pick]) -> list[Applied]:
    copies: dict[Value, Value] = {}
    before = clone_model(ctx.model, copies)
    by_output = {layer.node.outputs[0]: layer for layer in all_linear_layers(before)}
    olds: dict[Node, Linear | None] = {}
    for pick in picks:
        is_seen = pick.studies[0].site.kind not in ("recurrent", "table")
        olds[_first(pick)] = by_output.get(copies[_first(pick).outputs[0]]) if is_seen else None
    done: list[Applied] = []
    known = Recorded(ctx, before, [old.x for old in olds.values() if old is not None], purpose="refit")
    for stage in ctx.progress.track(_stages(picks, olds), "refit"):
        for pick, fit in _observed(ctx, before, known, stage, olds):
            done += _apply(ctx, plan, pick, _target(plan, pick, fit), sweeps=plan.refine)
    return done


def _stages(picks: Sequence[Pick], olds: dict[Node, Linear | None]) -> list[list[Pick]]:
    size = -(-len(picks) // STAGES) if picks else 1
    found: list[list[Pick]] = []
    room = 0
    for pick in picks:
        old = olds[_first(pick)]
        need = 0 if old is None else Refit.nbytes_for(old, old)
        if not found or len(found[-1]) >= size or need > room:
            found.append([])
            room = MEMORY
        found[-1].append(pick)
        room -= need
    return found


def _observed(
    ctx: Context, before: Model, known: Recorded, stage: Sequence[Pick], olds: dict[Node, Linear | None]
) -> list[tuple[Pick, Refit | None]]:
    """The picks of a stage with the moments of before and now, where they can be had."""
    fits: list[tuple[Pick, Refit | None]] = []
    pairs: dict[tuple[Value, Value], list[Refit]] = {}
    for pick in stage:
        old, new = olds[_first(pick)], linear_of(_first(pick))
        if old is None or new is None or Refit.nbytes_for(old, new) > MEMORY:
            fits.append((pick, None))
            continue
        fit = Refit(old, new)
        pairs.setdefault((old.x, new.x), []).append(fit)
        fits.append((pick, fit))
    recorded = {pair: found for pair, found in pairs.items() if pair[0] in known}
    if recorded:
        observe(ctx, _by_value(known, recorded), purpose="refit")
    if len(recorded) < len(pairs):
        observe_pairs(
            ctx, before, {pair: each for pair, each in pairs.items() if pair not in recorded}, purpose="refit"
        )
    return [(pick, fit if fit is not None and fit.count else None) for pick, fit in fits]


def _by_value(known: Recorded, pairs: dict[tuple[Value, Value], list[Refit]]) -> dict[Value, list[Observer]]:
    found: dict[Value, list[Observer]] = {}
    for (old, new), fits in pairs.items():
        found.setdefault(new, []).append(known.beside(old, fits))
    return found


def _first(pick: Pick) -> Node:
    return pick.studies[0].site.readers[0].first


def _target(plan: Plan, pick: Pick, fit: Refit | None) -> Target:
    kernels = [study.kernel for study in pick.studies]
    first = pick.studies[0]
    if fit is None:
        return Target(kernels, first.gram)
    dense = np.concatenate([matrices(kernel) for kernel in kernels], axis=2)
    ridge = fit.ridge(centred=first.is_centred) if plan.ridge is None else plan.ridge
    wanted, _ = fit.solve(dense, ridge=ridge, bias=first.is_centred)
    if not np.isfinite(wanted).all():
        return Target(kernels, first.gram)
    second = fit.second / fit.count
    if first.is_centred:
        mean = fit.first_new / fit.count
        second = second - mean[:, :, None] * mean[:, None, :]
    k = second.shape[1]
    second = second + ridge * (np.trace(second, axis1=1, axis2=2) / k)[:, None, None] * np.eye(k)
    parts = np.split(wanted, np.cumsum([kernel.shape[1] for kernel in kernels])[:-1], axis=2)
    made = [part.swapaxes(1, 2).reshape(kernel.shape) for part, kernel in zip(parts, kernels, strict=True)]
    return Target(made, second, fit)


def _apply(ctx: Context, plan: Plan, pick: Pick, target: Target, *, sweeps: int) -> list[Applied]:
    choice, studies = pick.choice, pick.studies
    assert choice is not None
    hidden: Value | None = None
    done = []
    if len(studies) > 1:
        found = _together(studies, target.kernels, target.gram, choice.ranks)
    else:
        made = factors_of(target.kernels[0], target.gram, choice.method, choice.ranks)
        found = [refined(made, target.kernels[0], target.gram, sweeps) if sweeps else made]
    for study, factors in zip(studies, found, strict=True):
        stored = factors.rounded(study.site.dtype)
        hidden, one = _build(ctx, study, stored, target.fit, hidden, shares=len(studies))
        done.append(one)
        study.forget()
    return done


def _build(
    ctx: Context, study: Study, factors: Factors, fit: Refit | None, hidden: Value | None, *, shares: int
) -> tuple[Value | None, Applied]:
    site = study.site
    label, op_type = site.label, site.node.op_type
    product = factors.product()
    change = study.kernel - product
    shift = _shift(study, product, fit)
    names = output_names(site)
    held = site.tensors
    bounds = list(local_bounds(site, change, shift, names))
    nodes = [node for reader in site.readers for node in reader.nodes]
    if shift is not None and site.bias_place is not None:
        nodes.append(site.bias_place[0])
    with ctx.rewriter.apply(factors.method, *nodes):
        builder = Builder(ctx.rewriter, site, factors, None if shift is None else shift.reshape(-1), hidden)
        builder.build()
    for number, tensor in enumerate(held):
        ctx.weights.became(tensor, builder.made if number == 0 else builder.made[-1:], Outcome.FACTORIZED,
                           form=factors.method)  # fmt: skip
    if builder.bias is not None:
        ctx.weights.became(builder.bias[0], [builder.bias[1]], Outcome.FACTORIZED, form="bias")
    ctx.bounds.extend(bounds)
    sigma, exact = spectral_norm(change)
    size, macs, _ = study.price(factors.method, factors.ranks)
    if hidden is not None:
        size, macs = _without_first(study.dims, factors, size, macs)
    expected = study.relative(_squared(change, study.gram)) ** 0.5
    return builder.hidden, Applied(
        study, factors, label, op_type, expected, _measured(study, product, fit), sigma, exact,
        float(np.abs(change).sum(axis=(2, 3, 4)).max()), 0.0 if shift is None else float(np.abs(shift).max()),
        size, macs, shares,
    )  # fmt: skip


def _without_first(dims: Dims, factors: Factors, size: float, macs: float) -> tuple[float, float]:
    """Bytes and MACs where the first factor is another site's."""
    share = factors.arrays[1].size / factors.size
    return size * share, macs * share


def _squared(change: Float64, gram: Float64 | None) -> float:
    dense = matrices(change)
    return max(0.0, float(np.einsum("gkn,gkn->", dense, dense if gram is None else gram @ dense)))


def _shift(study: Study, product: Float64, fit: Refit | None) -> Float64 | None:
    """What the bias gains: E[x] W - E[x~] W~."""
    if not study.is_centred or study.mean is None:
        return None
    old = fit.first_old / fit.count if fit is not None else study.mean
    new = fit.first_new / fit.count if fit is not None else study.mean
    dense, made = matrices(study.kernel), matrices(product)
    return np.asarray(np.einsum("gk,gkn->gn", old, dense) - np.einsum("gk,gkn->gn", new, made))


def _measured(study: Study, product: Float64, fit: Refit | None) -> float | None:
    """The relative error of the output on the sample data, with the input that the layer has now."""
    if study.gram is None or not study.energy > 0:
        return None
    dense, made = matrices(study.kernel), matrices(product)
    if fit is None:
        return float(np.sqrt(study.relative(_squared(study.kernel - product, study.gram))))
    second, cross = fit.second / fit.count, fit.cross / fit.count
    if study.is_centred:
        mean_old, mean_new = fit.first_old / fit.count, fit.first_new / fit.count
        second = second - mean_new[:, :, None] * mean_new[:, None, :]
        cross = cross - mean_new[:, :, None] * mean_old[:, None, :]
    squared = (
        study.energy - 2 * np.einsum("gkn,gkn->", made, cross @ dense) + np.einsum("gkn,gkn->", made, second @ made)
    )
    return float(np.sqrt(max(0.0, float(squared)) / study.energy))
