"""Emission: Q and DQ nodes around the units that are to run in integers.

    x -> Q -> DQ -> op(DQ(levels of the weight), DQ(int32 bias)) [-> Relu] -> Q -> DQ -> y

Every value has one Q, and one DQ in every graph that reads it; a value whose producer runs in integers is read behind
them by all, so that runtimes find the producer's output consumed by its Q alone. The int32 bias has the scale s_x s_w
of the products; a channel's weight scale is raised where else its bias would not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....ir import Graph, Node, Value, tensor
from ....ir.links import next_alive
from ...calibrate.ranges import Array
from ...manager.context import Context
from ...manager.weights import Outcome
from ..levels import steps
from ..place import Place, Shared
from ..targets.profile import Profile
from .affine import Affine
from .promises import Promises
from .qoperator import DOMAIN, SUFFIX, Pair, QOperators
from .units import Unit, channel_axis, keeps_name

if TYPE_CHECKING:
    from ..rounding.choice import Rounded

SIXTEEN_BITS = 21
"""The opset from which on Q and DQ have 16 bits."""
BIAS_LEVELS = 2.0**30
"""The largest bias in steps of s_x s_w: half of int32, as sums of products come on top."""


@dataclass(frozen=True)
class Coded:
    """A weight in levels with one scale per index of `axis`, or one for all; its bias in steps of s_x times them, or in
    float if it was corrected where the target has it so."""

    levels: NDArray[np.int8]
    scales: NDArray[np.float32]
    axis: int | None
    bias: NDArray[np.int32] | NDArray[np.float32] | None = None
    found: Rounded | str = ""
    """How levels were found by the outputs of the layer, or why they are the nearest; empty before that is asked."""

    def decoded(self) -> Array:
        """What the executor multiplies with."""
        return np.asarray(self.levels.astype(np.float32) * along(self.scales, self.axis, self.levels.ndim))

    def decoded_bias(self, x: float) -> NDArray[np.float64] | None:
        """What the executor adds, if inputs have steps of `x`."""
        if self.bias is None or self.bias.dtype != np.int32:
            return None if self.bias is None else self.bias.astype(np.float64)
        return np.asarray(self.bias.astype(np.float64) * (self.scales * np.float32(x)))


def along(scales: Array, axis: int | None, rank: int) -> Array:
    """Scales so that they broadcast over an array of `rank` axes: along `axis`, or one for all."""
    return scales.reshape([-1 if other == axis else 1 for other in range(rank)])


def coded(weight: Array, axis: int | None, levels: int, bias: Array | None = None, x: float = 1.0) -> Coded:
    """Symmetric levels of a weight, and of a bias whose steps are the weight's times `x`."""
    axes = () if axis is None else (axis,)
    found = steps(weight, axes, np.dtype(np.float32)).array * np.float32(127 / levels)
    scales = found.reshape(() if axis is None else -1)
    if bias is not None:
        least = least_scales(bias, x)
        scales = np.maximum(scales, least.max(initial=0) if axis is None else least).astype(np.float32)
    made = np.clip(np.rint(weight / along(scales, axis, weight.ndim)), -levels, levels).astype(np.int8)
    return Coded(made, scales, axis, None if bias is None else bias_levels(bias, scales, x))


def least_scales(bias: Array, x: float) -> NDArray[np.float64]:
    """The least scale of the weight of each channel with which its bias fits into int32."""
    return np.asarray(np.abs(bias.astype(np.float64)) / (x * BIAS_LEVELS))


def bias_levels(bias: Array, scales: NDArray[np.float32], x: float) -> NDArray[np.int32]:
    """A bias in steps of the weight's times `x`."""
    return np.rint(bias / (scales * np.float32(x)).astype(np.float64)).astype(np.int32)


_Key = tuple[Value, Value | None, float]


@dataclass
class Emitter:
    """Writes Q and DQ for units whose activations have the parameters `of`."""

    ctx: Context
    profile: Profile
    of: dict[Value, Affine]
    format: str = "qdq"
    """`qoperator` puts one integer operator in the place of DQ -> op -> Q."""
    weights: dict[_Key, Coded] = field(default_factory=dict)
    """Weights in levels, by weight, bias and what a step of the input is; shared by several emissions."""

    def follow(self, old: Value, new: Value) -> None:
        """Take note that the units read `new` now, which stands for `old`."""
        self.of[new] = self.of[old]

    def promise(self, units: Sequence[Unit]) -> None:
        """State the local bounds of what `emit` will do; names are those of now."""
        promises = Promises(self.of, names_products=self.format == "qdq")
        made, read = made_by(units), {value for unit in units for _, value in unit.inputs}
        kept = frozenset(value for value in read if value not in made and keeps_name(value))
        for value in needed(units):
            if value.const is None and value not in kept:
                self.ctx.bounds.append(promises.step(value))
        for unit in units:
            found = self.coded(unit) if unit.weight >= 0 else None
            self.ctx.bounds.extend(promises.unit(unit, found, kept))

    def emit(self, units: Sequence[Unit]) -> None:
        """Let these units run in integers."""
        made = made_by(units)
        self._shared: Shared = {}
        self._pairs: dict[Value, Pair] = {}
        reads: dict[Value, list[tuple[Node, int]]] = {}
        for unit in units:
            for slot, value in unit.inputs:
                reads.setdefault(value, []).append((unit.node, slot))
        for value in needed(units):
            if value.const is not None:
                for node, slot in reads[value]:
                    self.ctx.rewriter.set_input(node, slot, self._constant(value, node))
            elif value in made:
                self._behind(value)
            else:
                self._in_front(value, reads[value])
        for unit in units:
            if unit.weight >= 0:
                self._product(unit)
        for value, pair in self._pairs.items():
            self._bring_near(value, pair, reads.get(value, ()))
        if self.format == "qoperator":
            QOperators(self.ctx, self.profile, self.of).convert(units, self._pairs)
        for value, pair in self._pairs.items():
            self._drop(value, pair)

    # ---- activations

    def _behind(self, value: Value) -> None:
        """Q and DQ behind a unit: everybody reads what is decoded."""
        node = value.producer
        assert node is not None
        assert node.graph is not None
        decoded, quantize = self._pair(value, node.graph, next_alive(node))
        self.ctx.rewriter.take_over(value, decoded)
        self.ctx.rewriter.set_input(quantize, 0, value)

    def _in_front(self, value: Value, reads: Sequence[tuple[Node, int]]) -> None:
        """Q and DQ of a value in float, for the units that read it. What is decoded takes over its name."""
        graph, node = value.graph, value.producer
        assert graph is not None
        before = next(iter(graph.nodes), None) if node is None else next_alive(node)
        decoded, _ = self._pair(value, graph, before)
        for reader, slot in reads:
            self.ctx.rewriter.set_input(reader, slot, decoded)
        if not keeps_name(value):
            self.ctx.rewriter.swap_names(value, decoded)

    def _pair(self, value: Value, graph: Graph, before: Node | None) -> tuple[Value, Node]:
        rw, affine, name = self.ctx.rewriter, self.of[value], value.name
        scale = rw.constant(graph, tensor(np.float32(affine.scale)), "s", before=before)
        zero = rw.constant(graph, tensor(np.asarray(affine.zero, affine.dtype)), "z", before=before)
        origin = [] if value.producer is None else [value.producer]
        domain = self._domain(graph, affine.dtype)

        def insert(op_type: str, first: Value, hint: str) -> Node:
            return rw.insert(
                op_type, [first, scale, zero], before=before, graph=graph, outputs=[hint], domain=domain, origin=origin
            )

        levels = insert("QuantizeLinear", value, "q")
        decoded = insert("DequantizeLinear", levels.outputs[0], "d")
        self._pairs[value] = Pair(levels, decoded, name)
        return decoded.outputs[0], levels

    def _bring_near(self, value: Value, pair: Pair, reads: Sequence[tuple[Node, int]]) -> None:
        """A DQ of its own in every body whose units read a value of outside: runtimes look for it beside the unit."""
        rw, home, decode = self.ctx.rewriter, pair.decode.graph, pair.decode
        for node, slot in reads:
            graph = node.graph
            if graph is None or graph is home:
                continue
            if graph not in pair.near:
                pair.near[graph] = rw.insert(
                    "DequantizeLinear", decode.inputs, before=next(iter(graph.nodes)), outputs=["d"],
                    domain=decode.domain, origin=[node],
                )  # fmt: skip
            rw.set_input(node, slot, pair.near[graph].outputs[0])

    def _drop(self, value: Value, pair: Pair) -> None:
        """Take out what nobody reads; a value in float whose name DQ had gets a new one, and the levels show it."""
        rw = self.ctx.rewriter
        for node in (*pair.near.values(), pair.decode, pair.quantize):
            if node.graph is not None and node.outputs[0].is_dead:
                rw.erase(node)
        if pair.decode.graph is not None:
            return
        levels = pair.name + SUFFIX
        if pair.quantize.graph is not None and pair.quantize.outputs[0].name != levels:
            rw.rename(pair.quantize.outputs[0], levels, near=True)
        if value.graph is not None and value.name != pair.name:
            rw.rename(value, f"{pair.name}_float", near=True)

    def _domain(self, graph: Graph, dtype: np.dtype[Any]) -> str:
        """Where Q and DQ of a type are: those of onnxruntime have 16 bits in older opsets, too."""
        if dtype.itemsize == 1 or graph.opset[""] >= SIXTEEN_BITS:
            return ""
        if DOMAIN not in self.ctx.model.opset:
            self.ctx.rewriter.set_opset(self.ctx.model, DOMAIN, 1)
        return DOMAIN

    # ---- constants

    def _constant(self, value: Value, node: Node) -> Value:
        """A constant operand, quantized like an activation."""
        assert value.const is not None
        affine = self.of[value]
        levels, zero = affine.levels(value.const.numpy()), np.asarray(affine.zero, affine.dtype)
        return self._decoded(node, value, levels, np.float32(affine.scale), zero, None)

    def _product(self, unit: Unit) -> None:
        node, rw, found = unit.node, self.ctx.rewriter, self.coded(unit)
        weight = node.inputs[unit.weight]
        assert weight is not None
        assert weight.const is not None
        old = weight.const
        zeros = np.zeros(found.scales.shape, np.int8)
        decoded = self._decoded(node, weight, found.levels, found.scales, zeros, found.axis)
        rw.set_input(node, unit.weight, decoded)
        made = [value.const for value in decoded.producer.inputs if value is not None] if decoded.producer else []
        self.ctx.weights.became(old, [one for one in made if one is not None], Outcome.QUANTIZED, form=self.format)
        if found.bias is not None:
            rw.set_input(node, unit.bias, self._bias(unit, weight, found.bias, found.scales))

    def _bias(self, unit: Unit, weight: Value, bias: Array, scales: NDArray[np.float32]) -> Value:
        """The bias of a product, held where its weight is."""
        if bias.dtype != np.int32:
            return self._home(unit.node, weight).constant(self.ctx.rewriter, tensor(bias), "b")
        steps_ = scales * np.float32(self.of[unit.inputs[0][1]].scale)
        return self._decoded(unit.node, weight, bias, steps_, None, None if steps_.ndim == 0 else 0)

    def recode(self, unit: Unit, coded: Coded) -> None:
        """Take other levels for the weight of a unit, and for its bias."""
        self.weights[self._key(unit)] = coded

    def _key(self, unit: Unit) -> _Key:
        weight = unit.node.inputs[unit.weight]
        assert weight is not None
        bias = unit.node.input(unit.bias) if unit.bias >= 0 else None
        return weight, bias, 1.0 if bias is None else self.of[unit.inputs[0][1]].scale

    @property
    def top(self) -> int:
        """The largest absolute level of a weight."""
        return self.profile.weight_levels

    def rounded(self, unit: Unit, x: Array) -> Array:
        """What the input of a unit becomes."""
        return self.of[unit.inputs[0][1]].rounded(x)

    def bias_step(self, unit: Unit) -> float | None:
        """What steps of the weight are multiplied by to be those of the bias; None if that is in float."""
        return self.of[unit.inputs[0][1]].scale if self.profile.bias_type == "int32" else None

    def coded(self, unit: Unit) -> Coded:
        """The weight of a unit in levels, and its bias where the target has it in integers."""
        key = weight, bias, scale = self._key(unit)
        if key not in self.weights:
            assert weight.const is not None
            numbers = None if bias is None or self.profile.bias_type != "int32" else bias.const
            self.weights[key] = coded(
                weight.const.numpy(),
                channel_axis(unit.node) if unit.rule.channels else None,
                self.profile.weight_levels,
                None if numbers is None else numbers.numpy().reshape(-1),
                scale,
            )
        return self.weights[key]

    def _decoded(self, node: Node, old: Value, levels: Array, scales: Any, zeros: Any, axis: int | None) -> Value:
        """DequantizeLinear in front of `node`, of constants in the graph that holds `old`; there is one of each for all
        that ask."""
        home = self._home(node, old)
        parts = [("q", levels), ("s", scales), *([] if zeros is None else [("z", zeros)])]
        held = [home.constant(self.ctx.rewriter, tensor(array), hint) for hint, array in parts]
        attributes = None if axis is None else {"axis": axis}
        domain = "" if zeros is None else self._domain(home.graph, zeros.dtype)
        made = self.ctx.rewriter.insert(
            "DequantizeLinear", held, attributes, before=node, outputs=["w"], domain=domain, origin=[node]
        )
        return made.outputs[0]

    def _home(self, node: Node, old: Value) -> Place:
        """Where constants for `node` go that stand for `old`: into its graph."""
        assert old.graph is not None
        return Place(old.graph, node if old.graph is node.graph else None, (node,), self._shared)


def made_by(units: Sequence[Unit]) -> dict[Value, Unit]:
    """The unit that makes each value."""
    return {value: unit for unit in units for value in unit.outputs}


def needed(units: Sequence[Unit]) -> list[Value]:
    """The values that are quantized: what units read, and what they make and cannot leave in float."""
    read = dict.fromkeys(value for unit in units for _, value in unit.inputs)
    made = [value for value, unit in made_by(units).items() if value in read or not unit.leaves_float]
    return list(dict.fromkeys([*read, *made]))
