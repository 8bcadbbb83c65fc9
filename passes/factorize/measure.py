"""Measuring: the model as it is now against its outputs before, and a layer against its factors in time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from onnx import helper

from ...errors import UserError
from ...ir import Rewriter, Session, lower
from ...ir.analysis.shapes import Shapes
from ..manager.context import Context, Feed
from ..manager.deployed import deployed
from .build import Builder
from .factors import Factors
from .sites import Site, find

FEEDS = 16
"""Samples that errors are measured on."""
SECONDS = 0.15
"""How long two versions of a layer are timed."""
Results = Sequence[Mapping[str, Any]]


def outputs(ctx: Context, at_most: int = FEEDS) -> Results:
    """What the model gives on some of the samples."""
    if ctx.backend is None:
        raise UserError("factorize needs an executor to measure errors")
    session = deployed(ctx.backend, ctx.model)
    fed = {port.name for port in session.inputs}
    feeds: Iterable[Feed] = islice(ctx.feeds(), at_most)
    found = []
    for feed in feeds:
        ctx.progress.ticks += 1  # a sign of life
        found.append(session.run({name: value for name, value in feed.items() if name in fed}))
    return found


def rel_l2(before: Results, after: Results) -> float:
    """The worst over outputs and samples; of outputs that are not float the share of unequal elements."""
    return max(_errors(before, after), default=0.0)


def mean_squared(before: Results, after: Results) -> float:
    """The mean over outputs and samples of the squared errors."""
    squares = [error**2 for error in _errors(before, after)]
    return float(np.mean(squares)) if squares else 0.0


def _errors(before: Results, after: Results) -> Iterator[float]:
    for old, new in zip(before, after, strict=True):
        for name in old:
            yield _error(old[name], new[name])


def _error(old: Any, new: Any) -> float:
    if not isinstance(old, np.ndarray) or not isinstance(new, np.ndarray) or old.shape != new.shape:
        return 0.0 if type(old) is type(new) and not isinstance(old, np.ndarray) else np.inf
    if not old.size:
        return 0.0
    if old.dtype.kind != "f":
        return float(np.mean(old != new))
    a, b = old.astype(np.float64), new.astype(np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return np.inf
    a, b = np.where(np.isfinite(a), a, 0), np.where(np.isfinite(b), b, 0)
    size, off = float(np.linalg.norm(a)), float(np.linalg.norm(a - b))
    return off / size if size > 0 else (np.inf if off > 0 else 0.0)


def layer_ratio(ctx: Context, site: Site, factors: Factors, shapes: Shapes) -> float | None:
    """Time of the factors over that of the layer, alone, in interleaved runs; None if it cannot be told."""
    shape = shapes.static_shape(site.x)
    if ctx.backend is None or shape is None or site.kind in ("recurrent", "table") or len(site.readers) > 1:
        return None
    proto = _alone(site, shape, ctx.model.opset.get("", 0), ctx.model.ir_version)
    if proto is None:
        return None
    before, after = lower(proto), lower(proto)
    (twin,), _ = find(after.graph.walk_graphs())
    Builder(Rewriter(after), twin, factors).build()
    feed = {"x": np.random.default_rng(0).standard_normal(shape).astype(site.dtype)}
    return _ratio(deployed(ctx.backend, before), deployed(ctx.backend, after), feed)


def _alone(site: Site, shape: tuple[int, ...], opset: int, ir_version: int) -> Any:
    """A model of one layer."""
    if site.is_product or site.layer is None:
        return None
    node = site.node
    dtype = site.tensors[0].dtype
    inputs = ["x", "w"] if site.layer.slot == 1 else ["w", "x"]
    held = [site.tensors[0].to_proto("w")]
    bias = node.input(2)
    if bias is not None and bias.const is not None:
        inputs.append("b")
        held.append(bias.const.to_proto("b"))
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    made = helper.make_node(node.op_type, inputs, ["y"], **attributes)
    x = helper.make_tensor_value_info("x", dtype, list(shape))
    y = helper.make_tensor_value_info("y", dtype, None)
    graph = helper.make_graph([made], "layer", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=max(4, ir_version))


def _ratio(a: Session, b: Session, feed: Feed) -> float:
    """The median over rounds of B, in rounds of A, B, B, A."""
    for _ in range(2):
        a.run(feed)
        b.run(feed)
    ratios: list[float] = []
    deadline = time.perf_counter() + SECONDS
    while len(ratios) < 5 or (time.perf_counter() < deadline and len(ratios) < 1000):
        taken = []
        for session in (a, b, b, a):
            start = time.perf_counter()
            session.run(feed)
            taken.append(max(time.perf_counter() - start, 1e-9))
        ratios.append((taken[1] + taken[2]) / (taken[0] + taken[3]))
    return float(np.median(ratios))
