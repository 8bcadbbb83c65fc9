"""A shared basis: matrices that read the same input get one first factor, [W1 W2 ...] = A [B1 B2 ...].

Weighted so that what each adds to the error of the model counts: the columns of W_i are scaled by the root of its
weight over the energy of its output before the decomposition, and the B_i scaled back behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .factors import Factors, Float64
from .study import ALIGN, FASTER, PER_NODE_BYTES, POINTS, Choice, Study
from .svd import Svd, decompose
from .work import stage


def bundles(studies: Sequence[Study]) -> list[tuple[Study, ...]]:
    """The studies that may share, in groups; those that may not, alone. Each group in the order of the nodes."""
    found: dict[object, list[Study]] = {}
    for study in studies:
        found.setdefault(_key(study), []).append(study)
    return [tuple(each) for each in found.values()]


def _key(study: Study) -> object:
    site = study.site
    layer = site.layer
    if layer is None or site.is_product or len(site.readers) > 1 or layer.groups > 1:
        return site.node
    if site.kind not in ("matmul", "gemm", "conv") or (site.kind != "conv" and layer.slot != 1):
        return site.node
    names = ("transA",) if site.kind == "gemm" else ("auto_pad", "dilations", "pads", "strides")
    settings = tuple(str(site.node.attr(name)) for name in names)
    return layer.x, site.node.graph, site.kind, site.dtype, layer.kernel, settings, study.takes_bias


def scales(studies: Sequence[Study]) -> list[float]:
    """By which the columns of each are scaled."""
    return [float(np.sqrt(study.weight / study.energy)) if study.energy > 0 else 1.0 for study in studies]


def stacked(kernels: Sequence[Float64], by: Sequence[float]) -> Float64:
    """The scaled kernel arrays, one beside the other."""
    return np.concatenate([kernel * scale for kernel, scale in zip(kernels, by, strict=True)], axis=1)


def split(factors: Factors, widths: Sequence[int], by: Sequence[float]) -> list[Factors]:
    """The factors of each; the first is the same array in all."""
    first, last = factors.arrays
    parts = np.split(last, np.cumsum(widths)[:-1], axis=1)
    return [Factors("svd", factors.ranks, (first, part / scale)) for part, scale in zip(parts, by, strict=True)]


def look_together(studies: Sequence[Study], share: float, *, timed: bool) -> list[Choice]:
    """The choices that share a first factor, at most a share of all their numbers; errors are weighted sums."""
    dense = sum(study.dense_numbers for study in studies)
    _, _, c, a, b = studies[0].dims.shape
    widths = [study.dims.shape[1] for study in studies]
    per_rank = c * a * b + sum(widths)
    most = min(int(share * dense / per_rank), c * a * b, sum(widths))
    if most < 1:
        return []
    svd = decomposed(studies)
    dims, kind = studies[0].dims, studies[0].site.kind
    found = []
    ranks = {max(1, round(part * most)) for part in np.linspace(1 / POINTS, 1, POINTS)}
    for rank in sorted({rank if rank < 64 else rank // ALIGN * ALIGN for rank in ranks}):
        nodes = [stage(kind, 1, c, rank, a * b, dims.entering, dims.leaving)]
        nodes += [stage(kind, 1, rank, n, 1, dims.leaving, dims.leaving) for n in widths]
        time = sum(node.time for node in nodes)
        if timed and time >= FASTER * sum(study.time for study in studies):
            continue
        size = rank * per_rank * studies[0].site.dtype.itemsize + PER_NODE_BYTES
        found.append(Choice("svd", (rank,), svd.dropped(rank), size, sum(node.macs for node in nodes), time))
    return found


def decomposed(studies: Sequence[Study]) -> Svd:
    """The decomposition of all together."""
    by = scales(studies)
    return decompose(stacked([study.kernel for study in studies], by), studies[0].gram)
