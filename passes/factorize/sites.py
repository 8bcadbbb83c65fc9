"""Sites: the weights that can be factorized, with all nodes that read each, and why the others cannot.

A site is one effective weight: that of one layer, or the product of several that follow each other with nothing between
(a pair of factors, a thin table and what widens its rows, a chain of convolutions), which is factorized anew instead of
nested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ...ir import Graph, Node, SparseTensor, Tensor, Value
from ...ir.analysis.linear import Linear, linear_of
from .chains import Chain, chain_of, is_pointwise
from .factors import Float64

Kind = Literal["matmul", "gemm", "conv", "transposed", "recurrent", "table"]
KINDS: dict[str, Kind] = {
    "MatMul": "matmul",
    "Gemm": "gemm",
    "Conv": "conv",
    "ConvTranspose": "transposed",
    "LSTM": "recurrent",
    "GRU": "recurrent",
    "RNN": "recurrent",
}
FLOATS = {int(TensorProto.FLOAT16), int(TensorProto.FLOAT), int(TensorProto.DOUBLE)}


@dataclass(frozen=True)
class Reader:
    """The nodes of one reading, in order: one, a pair, or a chain."""

    nodes: tuple[Node, ...]

    @property
    def first(self) -> Node:
        """That which meets the rows."""
        return self.nodes[0]

    @property
    def last(self) -> Node:
        """That which gives the output."""
        return self.nodes[-1]


@dataclass(frozen=True)
class Site:
    """One effective weight. `layer` is the view of the first reading, None for a table."""

    kind: Kind
    readers: tuple[Reader, ...]
    layer: Linear | None
    weights: tuple[Value, ...]
    chain: Chain | None = None

    @property
    def label(self) -> str:
        """The name of the weight."""
        return self.weights[-1].name

    @property
    def node(self) -> Node:
        """The node that gives the first output."""
        return self.readers[0].last

    @property
    def x(self) -> Value:
        """What the first reading multiplies."""
        found = self.readers[0].first.input(1 if self.kind == "table" else 0)
        if self.layer is not None:
            found = self.layer.x
        assert found is not None
        return found

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the weights hold."""
        return tuple(value.const for value in self.weights if value.const is not None)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The element type."""
        return np.dtype(self.tensors[-1].numpy().dtype)

    @property
    def size(self) -> int:
        """Numbers in the weights as they are."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def is_product(self) -> bool:
        """Whether several weights make up this one."""
        return len(self.weights) > 1

    @property
    def bias_place(self) -> tuple[Node, int] | None:
        """Node and slot where a constant is, or can be, added to the outputs of the one reading; None if nowhere."""
        node = self.node
        bias = node.input(2) if self.kind in ("conv", "gemm") else None
        if len(self.readers) > 1 or (bias is not None and bias.const is None):
            return None
        if self.kind == "conv":
            return node, 2
        if self.layer is None or self.layer.slot == 0:
            return None
        if self.kind == "matmul":
            return _added(node)
        scales = {node.attr("alpha", 1.0), node.attr("beta", 1.0)}
        is_row = bias is not None and bias.const is not None and len(bias.const.shape) == 1
        return (node, 2) if self.kind == "gemm" and scales == {1.0} and is_row else None

    def kernel(self) -> Float64:
        """The kernel array [g, n, c, a, b]."""
        if self.chain is not None:
            return self.chain.kernel()
        arrays = [tensor.numpy().astype(np.float64) for tensor in self.tensors]
        if self.layer is None:
            table = arrays[0] @ arrays[1] if self.is_product else arrays[0]
            return np.ascontiguousarray(table.T)[None, :, :, None, None]
        found = self.layer.matrices(arrays[0])
        if self.kind == "recurrent":
            found = found.transpose(1, 0, 2).reshape(1, found.shape[1], -1)
        if self.is_product:
            second = linear_of(self.node)
            assert second is not None
            found = found @ second.matrices(arrays[1])
        g, k, n = found.shape
        spatial = self.layer.kernel if self.kind == "conv" else ()
        first = spatial[0] if spatial else 1
        rest = int(np.prod(spatial[1:])) if spatial else 1
        return np.ascontiguousarray(found.swapaxes(1, 2)).reshape(g, n, k // (first * rest), first, rest)

    def moments(self, second: NDArray[np.float64]) -> Float64:
        """Of the moments that its layer observes, those that its matrices meet."""
        return second[:1] if self.kind == "recurrent" else second


def _added(product: Node) -> tuple[Node, int] | None:
    """Of a product x W the Add that alone reads it and adds a row to it, and where the row is."""
    y = product.outputs[0]
    weight, uses = product.input(1), y.uses
    if len(uses) != 1 or weight is None or weight.const is None:
        return None
    add = uses[0].user
    if not isinstance(add, Node) or not add.is_op("Add") or add.graph is not product.graph:
        return None
    slot = 1 - uses[0].slot
    row = add.input(slot)
    n = weight.const.shape[-1]
    is_row = row is not None and row.const is not None and row.const.shape[-1:] == (n,) == (row.const.size,)
    return (add, slot) if is_row else None


@dataclass(frozen=True)
class Refusal:
    """A weight that cannot be factorized."""

    value: Value
    node: Node
    reason: str


def find(graphs: Iterator[Graph]) -> tuple[list[Site], list[Refusal]]:
    """The sites of some graphs in order, and the weights that are none."""
    readings: dict[tuple[Value, ...], list[tuple[Kind, Reader, Linear | None]]] = {}
    for graph in graphs:
        for node in graph.nodes:
            found = _reading(node)
            if found is not None:
                values, *rest = found
                readings.setdefault(values, []).append(tuple(rest))  # type: ignore[arg-type]
    products = [set(values) for values in readings if len(values) > 1]
    sites: list[Site] = []
    refusals: list[Refusal] = []
    for values, each in readings.items():
        if any(set(values) < product for product in products):
            continue
        kinds = {
            (kind, None if layer is None else (layer.slot, layer.groups, _layout(layer))) for kind, _, layer in each
        }
        chain = chain_of(each[0][1].last) if len(values) > 1 else None
        site = Site(each[0][0], tuple(reader for _, reader, _ in each), each[0][2], values, chain)
        reason = _unfit(site) if len(kinds) == 1 else "it is read in different ways"
        if reason:
            refusals.append(Refusal(values[-1], site.node, reason))
        else:
            sites.append(site)
    return sites, refusals


def _layout(layer: Linear) -> tuple[object, ...]:
    return tuple(layer.node.attr(name, 0) for name in ("transA", "transB"))


def _reading(node: Node) -> tuple[tuple[Value, ...], Kind, Reader, Linear | None] | None:
    if node.is_op("Gather") and not any(attribute.ref for attribute in node.attributes.values()):
        return _table(node)
    layer = linear_of(node)
    if layer is None:
        return None
    chain = chain_of(node)
    if chain is not None:
        return chain.weights, "conv", Reader(chain.nodes), chain.layer
    before = layer.x.producer
    first = None if before is None or before.graph is not node.graph else linear_of(before)
    if before is not None and _only_feeds(before, node):
        if first is not None and _is_pair(first, layer):
            return (first.weight, layer.weight), KINDS[layer.op_type], Reader((before, node)), first
        if _is_table(before) and layer.op_type == "MatMul" and layer.slot == 1:
            held = before.input(0)
            assert held is not None
            return (held, layer.weight), "table", Reader((before, node)), None
    return (layer.weight,), KINDS[layer.op_type], Reader((node,)), layer


def _only_feeds(before: Node, node: Node) -> bool:
    uses = before.outputs[0].uses
    return len(uses) == 1 and uses[0].user is node


def _table(node: Node) -> tuple[tuple[Value, ...], Kind, Reader, Linear | None] | None:
    if not _is_table(node):
        return None
    held = node.input(0)
    assert held is not None
    return (held,), "table", Reader((node,)), None


def _is_table(node: Node) -> bool:
    held, where = (node.input(0), node.input(1)) if node.is_op("Gather") else (None, None)
    if held is None or where is None or held.const is None or where.const is not None:
        return False
    return len(held.const.shape) == 2 and node.attr("axis", 0) in (0, -2) and held.const.dtype in FLOATS


def _is_pair(first: Linear, second: Linear) -> bool:
    """Whether two layers are factors of one: nothing is added, cut or moved between them."""
    if len(first.weight.uses) > 1 or len(second.weight.uses) > 1 or first.node.input(2) is not None:
        return False
    match first.op_type, second.op_type:
        case "MatMul", "MatMul":
            return first.slot == second.slot == 1
        case "MatMul", "Gemm":
            return first.slot == second.slot == 1 and not second.node.attr("transA", 0)
        case "Conv", "Conv":
            return is_pointwise(second) and first.groups == second.groups and first.n == second.k
    return False


def _unfit(site: Site) -> str:
    """Why a weight cannot be factorized; empty if it can."""
    for value in site.weights:
        reason = _unfit_value(value, site)
        if reason:
            return reason
    if site.layer is not None and site.kind == "conv" and site.chain is None and _is_factor(site):
        return "it is a factor of a convolution already"
    return ""


def _unfit_value(value: Value, site: Site) -> str:
    held = value.const
    if held is None:
        return "it is no constant"
    if held.dtype not in FLOATS:
        return "its elements are not float16, float or double"
    if isinstance(held, SparseTensor):
        return "it is stored sparse"
    readers = {node for reader in site.readers for node in reader.nodes}
    if any(use.user not in readers for use in value.uses):
        return "others read it too"
    if not held.size:
        return "it is empty"
    if not np.isfinite(held.numpy()).all():
        return "it holds NaN or Inf"
    return ""


def _is_factor(site: Site) -> bool:
    """Whether a convolution without bias feeds another alone, or is fed so: a chain of factors that is no pair."""
    node = site.readers[0].first
    before = node.input(0)
    made_by = None if before is None else before.producer
    if made_by is not None and made_by.is_op("Conv") and made_by.input(2) is None and _only_feeds(made_by, node):
        return linear_of(made_by) is not None
    last = site.node
    uses = last.outputs[0].uses
    after = uses[0].user if len(uses) == 1 else None
    return last.input(2) is None and isinstance(after, Node) and after.is_op("Conv") and linear_of(after) is not None
