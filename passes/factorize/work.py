"""What a factorization costs: MACs, numbers, and an estimate of time, in stages.

The estimate is in MACs of a large product: every number that is read or written costs several, and every node a start.
Convolutions compute channels in blocks; depthwise ones, and others with groups, run at a share of the speed. Fitted to
1,173 layers of the public models with their factors in onnxruntime, one thread of a CPU with AVX512: bench/factorize.py
says how far the whole is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod

import numpy as np

from ...ir import Node, Value
from ...ir.analysis.cost import node_macs
from ...ir.analysis.shapes import Shapes, infer_shapes
from ...ir.model import Model
from ..manager.context import Context, Feed
from .sites import KINDS, Site

OTHER_DIM = 64
"""What stands for a size that nothing tells, of axes but the first, where no data say it."""
PER_NODE = 40_000
PER_NUMBER = 30
WIDE = 16
"""Channels that a convolution computes at a time: it takes as long as with a multiple of these."""
DEPTHWISE = 3
"""How many times slower a MAC of a depthwise convolution is."""
GROUPED = 8
"""The same of other convolutions with groups."""


@dataclass(frozen=True)
class Stage:
    """One node: its MACs, and the estimate of its time."""

    macs: float
    time: float


def stage(kind: str, groups: int, c: float, n: float, taps: int, entering: float, leaving: float) -> Stage:
    """A node from c to n channels of a group, at so many positions."""
    macs = leaving * groups * n * c * taps
    if kind != "conv":
        return _timed(macs, macs, groups * (entering * c + leaving * n))
    if groups > 1:
        slow = DEPTHWISE if c == n == 1 else GROUPED
        return _timed(macs, slow * macs, groups * (entering * c + leaving * n))
    c, n = c if c < 4 else _wide(c), _wide(n)
    return _timed(macs, leaving * n * c * taps, entering * c + leaving * n)


def _scattered(groups: int, n: int, c: int, entering: float) -> Stage:
    """A transposed convolution to n outputs and taps: a product, whose results are then added up where they belong."""
    macs = entering * groups * n * c
    return _timed(macs, macs, entering * groups * (c + 2 * n))


def _wide(channels: float) -> float:
    return -(-channels // WIDE) * WIDE


def _timed(macs: float, work: float, moved: float) -> Stage:
    return Stage(macs, work + PER_NUMBER * moved + PER_NODE)


@dataclass(frozen=True)
class Dims:
    """A site as numbers: the kernel array's shape, and positions of inputs, half-way (spatial) and outputs."""

    shape: tuple[int, int, int, int, int]
    entering: float
    between: float
    leaving: float
    macs: float

    def dense(self, site: Site) -> Stage:
        """The layer as it is."""
        g, n, c, a, b = self.shape
        if site.kind == "transposed":
            return _scattered(g, n, c, self.entering)
        if site.kind != "conv" or site.is_product:
            return _timed(self.macs, self.macs, g * (self.entering * c + self.leaving * n))
        return stage("conv", g, c, n, a * b, self.entering, self.leaving)


def stages(site: Site, dims: Dims, method: str, ranks: tuple[int, ...]) -> list[Stage]:
    """The stages of a factorization."""
    g, n, c, a, b = dims.shape
    kind, start, between, end = site.kind, dims.entering, dims.between, dims.leaving
    r = ranks[0]
    match method:
        case "spatial":
            return [stage(kind, g, c, r, a, start, between), stage(kind, g, r, n, b, between, end)]
        case "tucker":
            o = ranks[1]
            found = [stage(kind, g, c, r, 1, start, start), stage(kind, g, r, o, a * b, start, end)]
            return [*found, stage(kind, g, o, n, 1, end, end)]
        case "cp":
            found = [stage(kind, g, c, r, 1, start, start), stage(kind, g * r, 1, 1, a, start, between)]
            return [*found, stage(kind, g * r, 1, 1, b, between, end), stage(kind, g, r, n, 1, end, end)]
        case "depthwise":
            return [stage(kind, g * c, 1, r, a * b, start, end), stage(kind, g, c * r, n, 1, end, end)]
    if kind == "table":
        return [_timed(0.0, 0.0, end * r), stage(kind, 1, r, n, 1, end, end)]
    if kind == "transposed":
        thin = stage("conv", g, c, r, 1, start, start)
        return [thin, _scattered(g, n, r, start)]
    return [stage(kind, g, c, r, a * b, start, end), stage(kind, g, r, n, 1, end, end)]


def numbers(shape: Sequence[int], method: str, ranks: tuple[int, ...]) -> int:
    """Numbers in the factors of a kernel array of that shape."""
    g, n, c, a, b = shape
    match method:
        case "spatial":
            return g * ranks[0] * (c * a + n * b)
        case "tucker":
            i, o = ranks
            return g * (i * c + o * i * a * b + n * o)
        case "cp":
            return g * ranks[0] * (c + a + b + n)
        case "depthwise":
            return g * c * ranks[0] * (a * b + n)
    return g * ranks[0] * (c * a * b + n)


def sized(model: Model, feed: Feed | None) -> Shapes:
    """Shapes at the sizes of a feed, or at usual ones where nothing says them."""
    pins: dict[str, tuple[int, ...]] = {}
    for value in model.graph.inputs:
        fed = None if feed is None else feed.get(value.name)
        if fed is not None:
            pins[value.name] = tuple(getattr(fed, "shape", ()))
        elif value.type is not None and value.type.HasField("tensor_type"):
            dims = value.type.tensor_type.shape.dim
            pins[value.name] = tuple(
                d.dim_value if d.dim_value > 0 else OTHER_DIM if i else 1 for i, d in enumerate(dims)
            )
    return infer_shapes(model, pins)


class SeenShapes(Shapes):
    """Shapes, those among them that inference does not know as they were seen in a run."""

    def __init__(self, inferred: Shapes, seen: Mapping[Value, tuple[int, ...]]) -> None:
        super().__init__({}, inferred.problem)
        self._inferred, self._seen = inferred, seen

    def static_shape(self, value: Value) -> tuple[int, ...] | None:
        """The shape if every dimension is a known number."""
        found = self._inferred.static_shape(value)
        return self._seen.get(value) if found is None else found


def seen(ctx: Context, shapes: Shapes) -> Shapes:
    """Shapes with those that a run on the first sample shows: of operands and results of all that multiplies."""
    wanted: dict[Value, None] = {}
    for node in ctx.model.graph.nodes:
        if node.op_type in (*KINDS, "Gather"):
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.name and value.const is None and shapes.static_shape(value) is None:
                    wanted[value] = None
    feed = next(islice(ctx.feeds(), 1), None)
    if feed is None or not wanted or ctx.backend is None:
        return shapes
    session = ctx.backend.prepare(ctx.model, outputs=[value.name for value in wanted])
    fed = {port.name for port in session.inputs}
    found = session.run({name: value for name, value in feed.items() if name in fed})
    return SeenShapes(shapes, {value: tuple(np.shape(found[value.name])) for value in wanted})


def model_macs(model: Model, shapes: Shapes) -> float:
    """MACs of all nodes of a model whose shapes are known."""
    return float(sum(node_macs(node, shapes) or 0 for graph in model.graph.walk_graphs() for node in graph.nodes))


def measured(site: Site, shape: tuple[int, int, int, int, int], shapes: Shapes) -> Dims:
    """The numbers of a site, over all its readings."""
    parts = [_positions(site, reader.first, reader.last, shape, shapes) for reader in site.readers]
    entering, between, leaving = (sum(part[i] for part in parts) for i in range(3))
    g, n, c, a, b = shape
    macs = leaving * g * n * c * a * b if site.kind not in ("table", "transposed") else 0.0
    if site.kind == "transposed":
        macs = entering * g * n * c
    if site.is_product:
        macs = sum(node_macs(node, shapes) or 0 for reader in site.readers for node in reader.nodes)
    return Dims(shape, entering, between, leaving, float(macs))


def _positions(site: Site, first: Node, last: Node, shape: Sequence[int], shapes: Shapes) -> tuple[float, float, float]:
    x = _dims(first.input(site.layer.slot == 0 if site.layer is not None else 1), shapes)
    y = _dims(last.outputs[0], shapes)
    _g, _n, c, _a, _b = shape
    if site.kind == "table":
        count = float(prod(x)) if x is not None else 1.0
        return count, count, count
    if site.kind in ("conv", "transposed"):
        if x is None or y is None:
            return 1.0, 1.0, 1.0
        entering, leaving = float(x[0] * prod(x[2:])), float(y[0] * prod(y[2:]))
        return entering, float(x[0] * y[2] * prod(x[3:])), leaving
    count = float(prod(x)) / max(1, c) if x is not None else 1.0
    return count, count, count


def _dims(value: Value | None, shapes: Shapes) -> tuple[int, ...] | None:
    return None if value is None else shapes.static_shape(value)
