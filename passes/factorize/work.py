"""What a factorization costs: MACs, numbers, and an estimate of time, in stages.

The estimate is in MACs of a large product: products of narrow channels and depthwise ones run at a share of the speed,
every number read and written costs several, and every node a start.
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
PER_NODE = 60_000
PER_NUMBER = 12
DEPTHWISE = 6
"""How many times slower a MAC of a depthwise convolution is."""


@dataclass(frozen=True)
class Stage:
    """One node: MACs, and numbers that it reads and writes."""

    macs: float
    moved: float
    slow: float = 1.0

    @property
    def time(self) -> float:
        """The estimate."""
        return self.macs * self.slow + PER_NUMBER * self.moved + PER_NODE


@dataclass(frozen=True)
class Dims:
    """A site as numbers: the kernel array's shape, and positions of inputs, half-way (spatial) and outputs."""

    shape: tuple[int, int, int, int, int]
    entering: float
    between: float
    leaving: float
    macs: float

    def dense(self) -> Stage:
        """The layer as it is."""
        g, n, c, _a, _b = self.shape
        slow = DEPTHWISE if c == 1 and g > 1 else 1.0
        return Stage(self.macs, self.entering * g * c + self.leaving * g * n, slow)


def stages(site: Site, dims: Dims, method: str, ranks: tuple[int, ...]) -> list[Stage]:
    """The stages of a factorization."""
    g, n, c, a, b = dims.shape
    x, y = dims.entering * g * c, dims.leaving * g * n
    match method:
        case "spatial":
            (r,) = ranks
            between = dims.between * g * r
            return [Stage(between * c * a, x + between), Stage(y * r * b, between + y)]
        case "tucker":
            i, o = ranks
            inner, outer = dims.entering * g * i, dims.leaving * g * o
            return [Stage(inner * c, x + inner), Stage(outer * i * a * b, inner + outer), Stage(y * o, outer + y)]
        case "cp":
            (r,) = ranks
            one, two, three = dims.entering * g * r, dims.between * g * r, dims.leaving * g * r
            found = [Stage(one * c, x + one), Stage(two * a, one + two, DEPTHWISE)]
            return [*found, Stage(three * b, two + three, DEPTHWISE), Stage(y * r, three + y)]
        case "depthwise":
            (m,) = ranks
            middle = dims.leaving * g * c * m
            return [Stage(middle * a * b, x + middle, DEPTHWISE), Stage(y * c * m, middle + y)]
    (r,) = ranks
    thin = (dims.entering if site.kind == "transposed" else dims.leaving) * g * r
    if site.kind == "table":
        return [Stage(0, thin), Stage(thin * n, thin + y)]
    wide = dims.entering * g * n if site.kind == "transposed" else y
    return [Stage(thin * c * a * b, x + thin), Stage(wide * r, thin + y)]


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


def total(found: Sequence[Stage]) -> Mapping[str, float]:
    """Sums over stages."""
    return {"macs": sum(stage.macs for stage in found), "time": sum(stage.time for stage in found)}
