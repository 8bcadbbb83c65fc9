"""Ranks without a goal for the model: given, by energy, by variational Bayes, or the numerical rank."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .factors import Float64, matrices
from .plan import Plan
from .ranks import by_energy, numerical, variational
from .study import Choice, Study, applies
from .svd import LARGE
from .work import numbers


def choose(study: Study, plan: Plan) -> Choice | str:
    """The smallest of what the methods give, or why there is none."""
    found = [(method, _ranks(study, method, plan)) for method in plan.methods if applies(study, method)]
    known = [(method, ranks) for method, ranks in found if ranks is not None]
    if not known:
        return "no method applies"
    method, ranks = min(known, key=lambda each: numbers(study.dims.shape, *each))
    limit = plan.share * study.dense_numbers
    if study.site.is_product:
        limit = min(limit, study.site.size - 1)
    if numbers(study.dims.shape, method, ranks) > limit:
        what = " ".join(map(str, ranks))
        return f"{method} of rank {what} costs more than {plan.share:.0%} of break-even (rank {study.break_even})"
    _, macs, _ = study.price(method, ranks)
    if macs > study.macs and study.site.kind != "table":
        return f"{method} of rank {' '.join(map(str, ranks))} takes more MACs"
    return study.choice(method, ranks)


def _ranks(study: Study, method: str, plan: Plan) -> tuple[int, ...] | None:
    """The ranks of a method; None if the rule says nothing of it."""
    if plan.goal == "rank":
        rank = int(plan.number)
        _, n, c, a, b = study.dims.shape
        most = {"svd": min(n, c * a * b), "nmf": min(n, c * a * b), "spatial": min(c * a, n * b), "cp": rank,
                "depthwise": min(n, a * b), "tucker": max(n, c)}[method]  # fmt: skip
        rank = min(rank, most)
        return (min(rank, c), min(rank, n)) if method == "tucker" else (rank,)
    if method in ("cp", "nmf"):
        return None
    if plan.goal == "energy" and method == "svd":
        most = int(plan.share * study.dense_numbers / numbers(study.dims.shape, "svd", (1,))) + 1
        spectra = study.svd(most).spectra
        return (max(1, *(by_energy(each.values, plan.number, each.rest) for each in spectra)),)
    return tuple(max(1, max(_rank(flat, study, plan) for flat in each)) for each in _unfoldings(study.kernel, method))


def _eps(study: Study) -> float:
    return float(np.finfo(np.dtype(study.site.dtype.name)).eps)


def _rank(flat: Float64, study: Study, plan: Plan) -> int:
    if min(flat.shape) > LARGE and plan.goal == "exact":
        return _rank_of_large(flat, study)
    high = flat if flat.shape[0] >= flat.shape[1] else flat.T
    triangle = np.linalg.qr(high, mode="r") if high.shape[0] > 2 * high.shape[1] else high
    values: Float64 = np.asarray(np.linalg.svd(triangle, compute_uv=False), np.float64)
    match plan.goal:
        case "energy":
            return by_energy(values**2, plan.number)
        case "vbmf":
            return variational(values, (flat.shape[0], flat.shape[1]))
    return numerical(values, (flat.shape[0], flat.shape[1]), _eps(study))


def _rank_of_large(flat: Float64, study: Study) -> int:
    """The numerical rank if a random projection to half the break-even finds it, else the smaller side."""
    width = max(1, min(flat.shape) // 8)
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(flat @ rng.standard_normal((flat.shape[1], width)))[0]
    values: Float64 = np.asarray(np.linalg.svd(basis.T @ flat, compute_uv=False), np.float64)
    rank = numerical(values, (flat.shape[0], flat.shape[1]), _eps(study))
    return rank if rank < width else min(flat.shape)


def _unfoldings(kernel: Float64, method: str) -> Iterator[list[Float64]]:
    """The matrices whose ranks a method's ranks are, for each of its ranks those of all groups."""
    g, n, c, a, b = kernel.shape
    match method:
        case "spatial":
            yield list(kernel.transpose(0, 2, 3, 1, 4).reshape(g, c * a, n * b))
        case "tucker":
            yield list(kernel.transpose(0, 2, 1, 3, 4).reshape(g, c, n * a * b))
            yield list(kernel.reshape(g, n, c * a * b))
        case "depthwise":
            yield list(kernel.transpose(0, 2, 1, 3, 4).reshape(g * c, n, a * b))
        case _:
            yield list(matrices(kernel))
