"""One layer: which of its weights stay, and what these are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...manager.context import Context
from .least_squares import Float64, adjust, remove
from .patterns import Array, Mask
from .plan import Plan
from .problem import Problem


def reordered(problem: Problem | None, order: Array) -> Problem | None:
    """A problem with its inputs in another order."""
    if problem is None:
        return None
    second = problem.second[:, order][:, :, order]
    return replace(problem, second=second, best=problem.best[:, order], size=problem.size[:, order])


def solve(
    ctx: Context, plan: Plan, weights: Float64, share: float, problem: Problem | None, *, iterated: bool
) -> Float64:
    """The weights `[groups, k, n]` under the mask."""
    if problem is not None and plan.criterion == "obs":
        groups = zip(problem.best, problem.second, strict=True)
        parts = [remove(best, c, plan.pattern, share, iterated=iterated) for best, c in groups]
        stays = np.stack([kept for _, kept in parts])
        return np.stack([found for found, _ in parts]) if plan.repair else np.where(stays, weights, 0)
    stays = _chosen(ctx, plan, weights, share, problem)
    if problem is None or not plan.repair:
        return np.where(stays, weights, 0)
    layers = zip(problem.best, problem.second, stays, strict=True)
    return np.stack([adjust(best, second, kept) for best, second, kept in layers])


def _chosen(ctx: Context, plan: Plan, weights: Float64, share: float, problem: Problem | None) -> Mask:
    """By scores of single weights, over all groups of a layer together."""
    if plan.threshold is not None:
        return np.asarray(np.abs(weights) > plan.threshold)
    scores = plain_scores(ctx, plan, weights)
    if problem is not None and plan.criterion == "wanda":
        scores = np.abs(weights) * problem.size[:, :, None]
    each_output = plan.criterion == "wanda" and plan.pattern.unit == "weight"
    return _best(plan, scores, share, each_output=each_output)


def by_magnitude(plan: Plan, weights: Float64, share: float) -> Mask:
    """Which weights stay if nothing but they themselves counts."""
    if plan.threshold is not None:
        return np.asarray(np.abs(weights) > plan.threshold)
    return _best(plan, np.abs(weights), share)


def _best(plan: Plan, scores: Float64, share: float, *, each_output: bool = False) -> Mask:
    groups, k, n = scores.shape
    flat = scores.transpose(1, 0, 2).reshape(k, groups * n)
    return plan.pattern.stay(flat, share, each_output=each_output).reshape(k, groups, n).transpose(1, 0, 2)


def plain_scores(ctx: Context, plan: Plan, weights: Float64) -> Float64:
    """What each weight costs by what it is alone."""
    if plan.criterion == "random":
        gone = weights == 0
        return np.where(gone, -1.0, ctx.rng.random(weights.shape))
    return np.asarray(weights**2 if plan.criterion == "l2" else np.abs(weights))
