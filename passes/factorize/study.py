"""A site under study: its kernel array, the second moments of its input, what could replace it and at what cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...ir.analysis.shapes import Shapes
from .cp import cp
from .depthwise import depthwise
from .factors import Factors, Float64, energy, squared_error, with_best_last
from .nmf import nmf
from .sites import Site
from .spatial import basis, spatial
from .svd import Svd, decompose
from .tucker import tucker
from .work import Dims, measured, numbers, stages

POINTS = 16
"""Ranks that are looked at."""
POINTS_OF_OTHERS = 8
"""The same of methods that compute anew at each."""
PER_NODE_BYTES = 224
"""More than a node with a stored factor takes in a file beside the factor's numbers."""
FASTER = 0.9
"""Of the time of a layer, by the estimate, what its factors may take at most: as much as the estimate may be off."""
ALIGN = 8
"""Ranks from 64 on are multiples of this: kernels run best so."""


KEPT = 32 << 20
"""Bytes of a decomposition up to which it is kept for later."""


@dataclass(frozen=True)
class Choice:
    """One replacement: the squared error of the output it costs, of its square, and what then stays to be done."""

    method: str
    ranks: tuple[int, ...]
    error: float
    bytes: float
    macs: float
    time: float


@dataclass(eq=False)
class Study:
    """One site. `takes_bias`: what is added behind it takes up the mean of its error."""

    site: Site
    dims: Dims
    takes_bias: bool = False
    gram: Float64 | None = None
    mean: Float64 | None = None
    weight: float = 1.0
    """What one unit of relative squared error here adds to that of the model's outputs."""
    choices: list[Choice] = field(default_factory=list)
    is_reached: bool = True
    """Whether the outputs of some sample depend on it, as far as that was looked at."""

    @cached_property
    def kernel(self) -> Float64:
        """The kernel array."""
        return self.site.kernel()

    @cached_property
    def energy(self) -> float:
        """The expected square of the output."""
        return energy(self.kernel, self.gram)

    @cached_property
    def break_even(self) -> int:
        """The rank at which two factors are as large as the matrix."""
        _g, n, c, a, b = self.dims.shape
        return int(c * a * b * n // (c * a * b + n))

    @property
    def dense_numbers(self) -> int:
        """Numbers of the effective weight."""
        return int(np.prod(self.dims.shape))

    @property
    def bytes(self) -> float:
        """Bytes of the weights as they are."""
        return float(self.site.size * self.site.dtype.itemsize)

    @property
    def macs(self) -> float:
        """MACs as it is."""
        return self.dims.macs

    @property
    def time(self) -> float:
        """The estimate as it is."""
        return self.dims.dense(self.site).time

    def svd(self, most: int) -> Svd:
        """The decomposition in the norm of the activations, good up to a rank."""
        if self._svd is None or self._svd.most < most:
            self._svd = decompose(self.kernel, self.gram, most)
        return self._svd

    _svd: Svd | None = None
    _left: Float64 | None = None

    def forget(self) -> None:
        """Let go of what can be computed again."""
        self._left = None
        if self._svd is not None and self._svd.nbytes > KEPT:
            self._svd = None
        self.__dict__.pop("kernel", None)

    def price(self, method: str, ranks: tuple[int, ...]) -> tuple[float, float, float]:
        """Bytes, MACs and time of a factorization."""
        found = stages(self.site, self.dims, method, ranks)
        size = float(numbers(self.dims.shape, method, ranks) * self.site.dtype.itemsize)
        more = len(found) - len(self.site.readers[0].nodes)
        size += PER_NODE_BYTES * more * len(self.site.readers)
        return size, sum(each.macs for each in found), sum(each.time for each in found)

    def factors(self, method: str, ranks: tuple[int, ...]) -> Factors:
        """The factors of a method, the last one the best for the data."""
        if method == "spatial":
            if self._left is None:
                self._left = basis(self.kernel)
            found = spatial(self.kernel, ranks[0], self._left)
            return found if self.gram is None else with_best_last(found, self.kernel, self.gram)
        return factors_of(self.kernel, self.gram, method, ranks, self.svd(ranks[0]) if method == "svd" else None)

    def relative(self, squared: float) -> float:
        """A squared error over that of the output."""
        return squared / self.energy if self.energy > 0 else float(squared > 0)

    def choice(self, method: str, ranks: tuple[int, ...]) -> Choice:
        """What a factorization costs."""
        if method == "svd":
            squared = self.svd(ranks[0]).dropped(ranks[0])
        else:
            squared = squared_error(self.kernel, self.factors(method, ranks).product(), self.gram)
        return Choice(method, ranks, self.relative(squared), *self.price(method, ranks))


def factors_of(
    kernel: Float64, gram: Float64 | None, method: str, ranks: tuple[int, ...], svd: Svd | None = None
) -> Factors:
    """Factors of a kernel array."""
    match method:
        case "svd":
            return (svd or decompose(kernel, gram, ranks[0])).cut(kernel, ranks[0])
        case "nmf":
            return nmf(kernel, *ranks)
        case "spatial":
            found = spatial(kernel, ranks[0])
        case "tucker":
            found = tucker(kernel, *ranks)
        case "cp":
            found = cp(kernel, *ranks)
        case _:
            found = depthwise(kernel, *ranks)
    return found if gram is None else with_best_last(found, kernel, gram)


def studied(site: Site, shapes: Shapes, *, takes_bias: bool) -> Study:
    """A study without data."""
    kernel = site.kernel()
    g, n, c, a, b = kernel.shape
    study = Study(site, measured(site, (g, n, c, a, b), shapes), takes_bias)
    study.forget()
    return study


def applies(study: Study, method: str) -> bool:
    """Whether a method can be used on a site."""
    _, n, c, a, b = study.dims.shape
    if method == "svd":
        return True
    if method == "nmf":
        return study.site.kind != "recurrent" and bool((study.kernel >= 0).all())
    if study.site.kind != "conv" or (study.site.is_product and study.site.chain is None):
        return False
    match method:
        case "spatial" | "cp":
            return a > 1 and b > 1
        case "tucker":
            return a * b > 1 and n > 1 and c > 1
    return a * b > 1 and c > 1


def rank_sets(study: Study, method: str, share: float) -> Iterator[tuple[int, ...]]:
    """Ranks that are worth a look, from small ones up, none that costs more than a share of the layer's numbers."""
    _, n, c, a, b = study.dims.shape
    if method == "tucker":
        for part in np.linspace(1 / POINTS_OF_OTHERS, 1, POINTS_OF_OTHERS):
            inner, outer = max(1, round(part * c)), max(1, round(part * n))
            yield min(c, _aligned(inner)), min(n, _aligned(outer))
        return
    if method == "depthwise":
        yield from ((m,) for m in range(1, min(n, a * b) + 1))
        return
    g = study.dims.shape[0]
    per_rank = numbers((g, n, c, a, b), method, (1,))
    most = int(share * study.dense_numbers / per_rank)
    if method in ("svd", "nmf"):
        most = min(most, n, c * a * b)
    elif method == "spatial":
        most = min(most, c * a, n * b)
    points = POINTS if method == "svd" else POINTS_OF_OTHERS
    yield from ((rank,) for rank in _grid(most, points))


def _grid(most: int, points: int) -> Sequence[int]:
    if most < 1:
        return ()
    found = {max(1, round(part * most)) for part in np.linspace(1 / points, 1, points)}
    return sorted({min(most, _aligned(rank)) for rank in found})


def _aligned(rank: int) -> int:
    return rank if rank < 64 else rank // ALIGN * ALIGN


def look(study: Study, methods: Sequence[str], share: float, *, timed: bool) -> None:
    """Find the choices of a study: those that are smaller, and `timed`, faster by the estimate."""
    limit = min(share * study.dense_numbers * study.site.dtype.itemsize, study.bytes)
    study.choices = []
    for method in methods:
        if not applies(study, method):
            continue
        sets = list(rank_sets(study, method, share))
        if method == "svd" and sets:
            study.svd(sets[-1][0])
        for ranks in sets:
            size, macs, time = study.price(method, ranks)
            is_table = study.site.kind == "table"
            if size >= limit + PER_NODE_BYTES or size >= study.bytes:
                continue
            most = study.macs * (1 if study.site.is_product else share * (1 + 1e-9))
            if not is_table and macs > most:
                continue
            if timed and time >= FASTER * study.time:
                continue
            study.choices.append(study.choice(method, ranks))
