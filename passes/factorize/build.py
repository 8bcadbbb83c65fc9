"""Building: the nodes that compute with factors in place of those that computed with the weight.

| a | becomes |
| --- | --- |
| MatMul, Gemm | a product with each factor; the second is a Gemm where the bias and alpha of one stay |
| Conv | a convolution for each factor: strides, dilations and pads go with the axes that it moves over; groups stay |
| ConvTranspose | a 1 x 1 convolution, then a ConvTranspose with fewer inputs |
| LSTM, GRU, RNN | a product of the input, then the same node with a narrower W |
| Gather of a table | Gather of a thin table, then a product |

The bias stays with the last node. Factors are stored once, whoever reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...ir import Graph, Node, Rewriter, Tensor, Value, tensor
from .factors import Factors, Float64
from .sites import Reader, Site

CONV = ("auto_pad", "dilations", "pads", "strides")


class Builder:
    """Puts factors in the place of one weight; `shift` [g n] is what the bias gains, None if it stays."""

    def __init__(
        self,
        rewriter: Rewriter,
        site: Site,
        factors: Factors,
        shift: Float64 | None = None,
        shared: Value | None = None,
    ) -> None:
        self._rw, self._site, self._factors, self._shift = rewriter, site, factors, shift
        self._held: dict[int, Value] = {}
        self.made: list[Tensor] = []
        """The tensors that stand for the weight."""
        self.bias: tuple[Tensor, Tensor] | None = None
        """The bias before and after."""
        self.hidden: Value | None = shared
        """The product with the first factor, which others that read the same input may share."""

    def build(self) -> None:
        """Rewrite all readings."""
        if self._site.kind == "matmul":
            self._move_added()
        for reader in self._site.readers:
            y = self._reading(reader)
            old = reader.last.outputs
            if self._site.kind == "recurrent":
                continue
            self._rw.take_over(old[0], y)
            for node in reversed(reader.nodes):
                self._rw.erase(node)

    def _reading(self, reader: Reader) -> Value:
        match self._site.kind:
            case "matmul":
                return self._matmul(reader)
            case "gemm":
                return self._gemm(reader)
            case "conv":
                return self._conv(reader)
            case "transposed":
                return self._transposed(reader)
            case "recurrent":
                return self._recurrent(reader)
        return self._table(reader)

    # ---- products

    def _matmul(self, reader: Reader) -> Value:
        p, q = self._matrices()
        x = self._x(reader)
        if self._slot == 0:
            thin = self.hidden or self._thin("MatMul", [self._hold(0, p.T, reader), x], None, reader)
            return self._insert("MatMul", [self._hold(1, q.T, reader), thin], None, reader)
        thin = self.hidden or self._thin("MatMul", [x, self._hold(0, p, reader)], None, reader)
        return self._insert("MatMul", [thin, self._hold(1, q, reader)], None, reader)

    def _gemm(self, reader: Reader) -> Value:
        p, q = self._matrices()
        last = reader.last
        kept = {name: last.attr(name) for name in ("alpha", "beta") if last.attr(name) is not None}
        x, bias = self._x(reader), last.input(2)
        turned = reader.first.is_op("Gemm") and reader.first.attr("transA" if self._slot else "transB", 0)
        if self._slot == 0:
            op, settings = ("Gemm", {"transB": 1}) if turned else ("MatMul", None)
            thin = self.hidden or self._thin(op, [self._hold(0, p.T, reader), x], settings, reader)
            return self._insert("Gemm", [self._hold(1, q.T, reader), thin, *([bias] if bias else [])], kept, reader)
        op, settings = ("Gemm", {"transA": 1}) if turned else ("MatMul", None)
        thin = self.hidden or self._thin(op, [x, self._hold(0, p, reader)], settings, reader)
        bias = self._bias(reader)
        return self._insert("Gemm", [thin, self._hold(1, q, reader), *([bias] if bias else [])], kept, reader)

    def _table(self, reader: Reader) -> Value:
        p, q = self._matrices()
        where = reader.first.input(1)
        thin = self._insert("Gather", [self._hold(0, p, reader), where], {"axis": 0}, reader)
        return self._insert("MatMul", [thin, self._hold(1, q, reader)], None, reader)

    def _recurrent(self, reader: Reader) -> Value:
        p, q = self._matrices()
        node = reader.last
        thin = self._thin("MatMul", [self._x(reader), self._hold(0, p, reader)], None, reader)
        assert self._site.layer is not None
        directions, wide, _ = self._site.layer.shape
        narrow = q.T.reshape(directions, wide, -1)
        self._rw.set_input(node, 0, thin)
        self._rw.set_input(node, 1, self._hold(1, narrow, reader))
        return node.outputs[0]

    def _matrices(self) -> tuple[Float64, Float64]:
        """The two factors of a matrix: [k, r] and [r, n]."""
        first, last = self._factors.arrays
        return first.reshape(first.shape[1], -1).T, last[0].T

    # ---- convolutions

    def _conv(self, reader: Reader) -> Value:
        one = reader.first if self._site.chain is None else self._site.chain.layer.node
        kernel = self._site.layer.kernel if self._site.layer is not None else ()
        rank, g = len(kernel), self._factors.arrays[0].shape[0]
        flat, head, tail = (1,) * rank, (kernel[0], *(1,) * (rank - 1)), (1, *kernel[1:])
        arrays = self._factors.arrays
        whole = {name: one.attr(name) for name in CONV}
        ahead, behind = _axis(one, rank, first=True), _axis(one, rank, first=False)
        x = self._x(reader)
        match self._factors.method:
            case "spatial":
                thin = self._convolve(0, x, arrays[0], head, g, ahead, reader)
                return self._convolve(1, thin, arrays[1], tail, g, behind, reader, last=True)
            case "tucker":
                thin = self._convolve(0, x, arrays[0], flat, g, {}, reader)
                thin = self._convolve(1, thin, arrays[1], kernel, g, whole, reader)
                return self._convolve(2, thin, arrays[2], flat, g, {}, reader, last=True)
            case "cp":
                r = arrays[0].shape[1]
                thin = self._convolve(0, x, arrays[0], flat, g, {}, reader)
                thin = self._convolve(1, thin, _each(arrays[1]), head, g * r, ahead, reader)
                thin = self._convolve(2, thin, _each(arrays[2]), tail, g * r, behind, reader)
                return self._convolve(3, thin, arrays[3], flat, g, {}, reader, last=True)
            case "depthwise":
                _, c, m, a, b = arrays[0].shape
                thin = self._convolve(0, x, arrays[0].reshape(g * c, m, 1, a, b), kernel, g * c, whole, reader)
                last = arrays[1].reshape(g, -1, c * m)
                return self._convolve(1, thin, last, flat, g, {}, reader, last=True)
        thin = self.hidden or self._convolve(0, x, arrays[0], kernel, g, whole, reader)
        self.hidden = thin if len(self._site.readers) == 1 else None
        return self._convolve(1, thin, arrays[1], flat, g, {}, reader, last=True)

    def _convolve(
        self,
        number: int,
        x: Value,
        array: Float64,
        kernel: Sequence[int],
        groups: int,
        attributes: Mapping[str, Any],
        reader: Reader,
        *,
        last: bool = False,
    ) -> Value:
        """A convolution with weights [groups, outputs, inputs, ...] of a group."""
        g, n, c = array.shape[:3]
        held = self._hold(number, array.reshape(g * n, c, *kernel), reader)
        bias = self._bias(reader) if last else None
        settings = {**attributes, "group": groups, "kernel_shape": list(kernel)}
        inputs = [x, held] if bias is None else [x, held, bias]
        return self._insert("Conv", inputs, settings, reader)

    def _transposed(self, reader: Reader) -> Value:
        p, q = self._factors.arrays
        node, layer = reader.last, self._site.layer
        assert layer is not None
        rank = len(layer.kernel)
        thin = self._convolve(0, self._x(reader), p[..., 0, 0], (1,) * rank, layer.groups, {}, reader)
        g, _n, r = q.shape
        array = q.swapaxes(1, 2).reshape(g * r, *layer.shape[1:])
        names = ("auto_pad", "dilations", "group", "kernel_shape", "output_padding", "output_shape", "pads", "strides")
        kept = {name: node.attr(name) for name in names}
        bias = node.input(2)
        inputs = [thin, self._hold(1, array, reader), *([bias] if bias else [])]
        return self._insert("ConvTranspose", inputs, kept, reader)

    # ---- parts

    @property
    def _slot(self) -> int:
        return self._site.layer.slot if self._site.layer is not None else 1

    def _x(self, reader: Reader) -> Value:
        x = reader.first.input(1 - self._slot)
        assert x is not None
        return x

    def _thin(self, op: str, inputs: list[Value], attributes: Mapping[str, Any] | None, reader: Reader) -> Value:
        made = self._insert(op, inputs, attributes, reader)
        self.hidden = made if len(self._site.readers) == 1 else None
        return made

    def _hold(self, number: int, array: Float64, reader: Reader) -> Value:
        """A stored factor; one for all readings."""
        if number not in self._held:
            weight = self._site.weights[-1]
            graph: Graph | None = weight.graph
            assert graph is not None
            made = tensor(np.ascontiguousarray(array.astype(self._site.dtype)))
            self.made.append(made)
            before = weight.producer
            self._held[number] = self._rw.constant(
                graph, made, f"{weight.name}_{number}", before=before, as_node=before is not None
            )
        return self._held[number]

    def _bias(self, reader: Reader) -> Value | None:
        """The bias of a node, moved."""
        old = reader.last.input(2)
        return old if self._shift is None else self._moved(old)

    def _move_added(self) -> None:
        """Move the row that is added behind a product."""
        place = self._site.bias_place
        if self._shift is not None and place is not None:
            node, slot = place
            self._rw.set_input(node, slot, self._moved(node.input(slot)))

    def _moved(self, old: Value | None) -> Value:
        held = None if old is None else old.const
        assert self._shift is not None
        assert old is None or held is not None
        now = self._shift if held is None else held.numpy().astype(np.float64) + self._shift.reshape(held.shape)
        made = tensor(now.astype(self._site.dtype))
        if held is not None:
            self.bias = (held, made)
        weight = self._site.weights[-1]
        assert weight.graph is not None
        name = old.name if old is not None else f"{weight.name}_bias"
        return self._rw.constant(weight.graph, made, name, before=weight.producer, as_node=weight.producer is not None)

    def _insert(
        self, op: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any] | None, reader: Reader
    ) -> Value:
        made = self._rw.insert(
            op, inputs, attributes, before=reader.last, outputs=[f"{reader.last.outputs[0].name}_low"],
            origin=reader.nodes,
        )  # fmt: skip
        return made.outputs[0]


def _each(array: Float64) -> Float64:
    """Weights of a depthwise convolution, one filter a channel: [g r, 1, 1, size] of [g, r, size]."""
    return array.reshape(-1, 1, 1, array.shape[-1])


def _axis(node: Node, rank: int, *, first: bool) -> dict[str, Any]:
    """The attributes of a convolution for a kernel that extends along the first axis alone, or along the others."""
    keep = [(axis == 0) == first for axis in range(rank)]
    found: dict[str, Any] = {"auto_pad": node.attr("auto_pad")}
    for name, neutral in (("dilations", 1), ("strides", 1), ("pads", 0)):
        given = node.attr(name)
        if given is not None:
            mask = keep * (2 if name == "pads" else 1)
            found[name] = [value if kept else neutral for value, kept in zip(given, mask, strict=True)]
    return found
