"""A product that runs in integers, as rounding sees it: a weight on the grid that the target multiplies in.

A step of a weight stays what the target can have: one for a channel, or one for all, and not so narrow that the bias,
in steps of s_x s_w, would leave int32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ....ir import Node
from ....ir.analysis.linear import Linear, linear_at
from ..alphabet import Integers
from ..levels import Grid, encode
from ..static.coder import Coder
from ..static.emit import Coded, along, bias_levels, least_scales
from ..static.units import Unit
from .choice import Rounded
from .clip import FACTORS
from .lattice import Float64
from .view import Array, View

SLACK = 1.5
"""Of the room that a bias leaves to sums of products, what a correction may take: `BIAS_LEVELS` is half of int32."""


@dataclass(frozen=True, eq=False)
class Product:
    """Units that read the same weight in the same levels."""

    coder: Coder
    units: Sequence[Unit]
    views: Sequence[View]

    @property
    def unit(self) -> Unit:
        """The first, which stands for all."""
        return self.units[0]

    @property
    def label(self) -> str:
        """Of the first."""
        return self.unit.node.label

    @property
    def name(self) -> str:
        """Of the weight."""
        value = self.layer.weight
        return f"{'' if value.graph is None else value.graph.label}/{value.name}"

    @property
    def layer(self) -> Linear:
        """The first."""
        return self.views[0].layer

    @cached_property
    def weight(self) -> Array:
        """In float."""
        return _constant(self.unit.node, self.unit.weight)

    @cached_property
    def bias(self) -> Float64 | None:
        """In float, one number per channel; None if there is none."""
        return _constant(self.unit.node, self.unit.bias).reshape(-1).astype(np.float64) if self.unit.bias >= 0 else None

    @property
    def coded(self) -> Coded:
        """As it is now."""
        return self.coder.coded(self.unit)

    @property
    def grid(self) -> Grid:
        """That of the levels: codes are the nearest."""
        coded, rank = self.coded, self.weight.ndim
        steps = along(coded.scales, coded.axis, rank) if coded.scales.ndim else coded.scales.reshape([1] * rank)
        alphabet = Integers(int(TensorProto.INT8), -self.coder.top, self.coder.top)
        return Grid(self.weight.shape, () if coded.axis is None else (coded.axis,), steps, alphabet=alphabet)

    @property
    def has_room(self) -> bool:
        """Whether the bias would fit into int32 with the narrowest of clipped steps."""
        return self.bias is None or bool(self._fit(self.bias, self.coded.scales * min(FACTORS)).all())

    def take(self, found: Rounded | str) -> None:
        """Codes and steps of the grid that was found, or the nearest ones for a reason."""
        grid = self.grid if isinstance(found, str) else found.grid
        scales = grid.array.reshape(self.coded.scales.shape).astype(np.float32)
        levels = encode(self.weight, grid).astype(np.int8)
        self.coder.recode(self.unit, Coded(levels, scales, self.coded.axis, self._coded_bias(scales, None), found))

    def move(self, amounts: Float64) -> None:
        """Add to the bias, of channels where that fits into int32."""
        self.coder.recode(self.unit, replace(self.coded, bias=self._coded_bias(self.coded.scales, amounts)))

    def _coded_bias(
        self, scales: NDArray[np.float32], amounts: Float64 | None
    ) -> NDArray[np.int32] | NDArray[np.float32] | None:
        bias, step = self.bias, self.coder.bias_step(self.unit)
        if bias is None or (step is None and amounts is None):
            return None
        if amounts is not None:
            bias = np.where(self._fit(bias + amounts, scales * SLACK), bias + amounts, bias)
        return bias.astype(np.float32) if step is None else bias_levels(bias, scales, step)

    def _fit(self, bias: Float64, scales: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which numbers of a bias fit into int32."""
        step = self.coder.bias_step(self.unit)
        return np.ones(bias.shape, np.bool_) if step is None else least_scales(bias, step) <= scales


def products(coder: Coder, units: Iterable[Unit]) -> list[Product]:
    """Those of units that have a weight."""
    found: dict[int, list[Unit]] = {}
    for unit in units:
        if unit.weight >= 0:
            found.setdefault(id(coder.coded(unit)), []).append(unit)
    return [Product(coder, same, [_view(unit) for unit in same]) for same in found.values()]


def _view(unit: Unit) -> View:
    shape = _constant(unit.node, unit.weight).shape
    layer = linear_at(unit.node, unit.weight, shape)
    assert layer is not None
    return View(layer, tuple(range(len(shape))))


def _constant(node: Node, slot: int) -> Array:
    value = node.inputs[slot]
    assert value is not None
    assert value.const is not None
    return value.const.numpy()
