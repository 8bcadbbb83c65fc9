"""Applying choices: all at once, or in order, each refitted to what the original gives: what earlier layers lost is won
back as far as the rank allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import Node, Value, clone_model
from ...ir.analysis.linear import Linear, all_linear_layers
from ..calibrate.halves import Halves
from ..calibrate.recorded import Recorded
from ..calibrate.refit import Refit
from ..calibrate.stages import in_stages
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
from .targets import Target, first_node, observed, target_of
from .work import Dims


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


def apply(
    ctx: Context, plan: Plan, picks: Sequence[Pick], *, in_one_go: bool = False, probe: bool = False
) -> list[Applied]:
    """Rewrite the model; `in_one_go` without refit; a `probe` also without refinement and without saying anything."""
    order = {node: i for i, node in enumerate(n for g in ctx.model.graph.walk_graphs() for n in g.nodes)}
    ordered = sorted(picks, key=lambda pick: order[first_node(pick)])
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
        site = pick.studies[0].site
        is_seen = site.kind not in ("recurrent", "table") and site.chain is None
        olds[first_node(pick)] = by_output.get(copies[first_node(pick).outputs[0]]) if is_seen else None
    done: list[Applied] = []
    known = Recorded(ctx, before, [old.x for old in olds.values() if old is not None], purpose="refit")
    for stage in ctx.progress.track(in_stages(picks, lambda pick: _need(pick, olds)), "refit"):
        for pick, halves in observed(ctx, before, known, stage, olds):
            done += _apply(ctx, plan, pick, target_of(plan, pick, halves), sweeps=plan.refine)
    return done


def _need(pick: Pick, olds: dict[Node, Linear | None]) -> int:
    old = olds[first_node(pick)]
    return 0 if old is None else Halves.nbytes_for(old, old)


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
        study, factors, label, op_type, expected, _measured(study, product, fit, shift), sigma, exact,
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
    if not study.takes_bias or study.mean is None:
        return None
    old = fit.first_old / fit.count if fit is not None else study.mean
    new = fit.first_new / fit.count if fit is not None else study.mean
    dense, made = matrices(study.kernel), matrices(product)
    return np.asarray(np.einsum("gk,gkn->gn", old, dense) - np.einsum("gk,gkn->gn", new, made))


def _measured(study: Study, product: Float64, fit: Refit | None, shift: Float64 | None) -> float | None:
    """The relative error of the output on the sample data, with the input that the layer has now."""
    if study.gram is None or not study.energy > 0:
        return None
    if fit is None:
        squared = _squared(study.kernel - product, study.gram)
    else:
        squared = study.energy + fit.error(matrices(study.kernel), matrices(product)) / fit.count
    made_up = 0.0 if shift is None else float((shift**2).sum())
    return float(np.sqrt(max(0.0, squared - made_up) / study.energy))
