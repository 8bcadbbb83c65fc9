"""The local bounds of static quantization.

A quantized activation x' that takes the name of x is within half a step of it inside the range, and saturates to the
nearest end outside: `step`. An input of the model keeps its name, so what rounds it is promised where it is read:
`rounded`, with the Lipschitz constant of the reader. A product with a weight in levels: `linear`, abs(dW) being what
is really there; its bias and other constants: `absolute`, or `linear` for a factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....ir import Value
from ...calibrate.ranges import Array
from ...manager.bounds import LocalBound
from .affine import Affine
from .units import Unit, channel_axis

if TYPE_CHECKING:
    from .emit import Coded

BY = "quantize-insert"


@dataclass(frozen=True)
class Promises:
    """States the bounds of units whose activations have the parameters `of`; call it before anything is changed."""

    of: Mapping[Value, Affine]
    names_products: bool = True
    """Whether what is in front of an activation keeps its name; else its bounds are stated behind the activation, which
    makes no error larger."""

    def step(self, value: Value) -> LocalBound:
        """Of a quantized activation under its old name."""
        affine = self.of[value]
        return LocalBound(
            BY, _label(value), value.name, "step", 0, np.array([affine.scale / 2]), low=affine.low, high=affine.high
        )

    def unit(self, unit: Unit, coded: Coded | None, kept: frozenset[Value]) -> Iterator[LocalBound]:
        """Of the output of the operator of a unit, for its constants, and for inputs whose name another value keeps."""
        y = unit.node.outputs[0] if self.names_products else unit.outputs[0]
        for slot, value in unit.inputs:
            if value.const is not None:
                yield self._constant(unit, value, y)
            elif value in kept:
                affine = self.of[value]
                for output in unit.node.outputs if unit.tail is None else (y,):
                    yield LocalBound(
                        BY, _label(y), output.name, "rounded", self._axis(unit), self._slopes(unit, slot, coded),
                        value.name, low=affine.low, high=affine.high, half=affine.scale / 2,
                    )  # fmt: skip
        if coded is not None:
            yield from self._weight(unit, coded, y)

    def _weight(self, unit: Unit, coded: Coded, y: Value) -> Iterator[LocalBound]:
        weight = unit.node.inputs[unit.weight]
        assert weight is not None
        assert weight.const is not None
        change = np.abs(weight.const.numpy().astype(np.float64) - coded.decoded())
        yield LocalBound(BY, _label(y), y.name, "linear", self._axis(unit), _sums(change, unit), weight.name)
        bias = unit.node.input(unit.bias) if unit.bias >= 0 else None
        found = coded.decoded_bias(self.of[unit.inputs[0][1]].scale)
        if bias is not None and bias.const is not None and found is not None:
            change = np.abs(bias.const.numpy().astype(np.float64).reshape(-1) - found)
            yield LocalBound(BY, _label(y), y.name, "absolute", self._axis(unit), change, bias.name)

    def _constant(self, unit: Unit, value: Value, y: Value) -> LocalBound:
        assert value.const is not None
        array = value.const.numpy()
        change = np.abs(array.astype(np.float64) - self.of[value].rounded(array)).max(initial=0)
        form = "linear" if unit.node.op_type == "Mul" else "absolute"
        return LocalBound(BY, _label(y), y.name, form, 0, np.array([change]), value.name)

    def _slopes(self, unit: Unit, slot: int, coded: Coded | None) -> Array:
        """How much a change of an input moves the outputs at most."""
        if coded is not None:
            return _sums(np.abs(coded.decoded().astype(np.float64)), unit)
        node = unit.node
        if node.op_type == "LeakyRelu":
            return np.array([max(1.0, abs(node.attr("alpha", 0.01)))])
        if node.op_type == "Mul":
            factor = node.inputs[1 - slot]
            assert factor is not None
            assert factor.const is not None
            return np.array([float(np.abs(self.of[factor].rounded(factor.const.numpy())).max(initial=0))])
        return np.array([SLOPES.get(node.op_type, 1.0)])

    def _axis(self, unit: Unit) -> int:
        return 1 if unit.node.op_type in ("Conv", "Gemm") else -1


SLOPES = {"Sigmoid": 0.25, "Softmax": 0.5}
"""In the max norm: of operators other than products; 1 for those that are not named."""


def _sums(array: Array, unit: Unit) -> Array:
    """The sums of a weight's absolute values for every output channel."""
    axis = channel_axis(unit.node)
    return np.asarray(array.sum(axis=tuple(other for other in range(array.ndim) if other != axis)))


def _label(value: Value) -> str:
    return "" if value.graph is None else value.graph.label
