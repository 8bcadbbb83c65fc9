"""The format `nbits`: MatMulNBits of onnxruntime's domain, which keeps a weight in its codes in memory as well and
decodes block by block while it multiplies.

    y = MatMul(x, w)  ->  y = MatMulNBits<K, N, bits, block_size>(x, codes, scales[, zero points])

`codes` is uint8[N, blocks, block_size bits / 8], the first code in the lowest bits; scales are float[N, blocks]; zero
points are packed like codes, uint8[N, ceil(blocks bits / 8)], and 2^(bits - 1) where they are left out. Decoded is
fl((code - zero) scale), and with `accuracy_level` 0 or 1 the product is computed in float: the local bound is that of
the weight. Level 4 rounds x to 8 bits as well, which no bound here covers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from onnx import TensorProto

from ...errors import UserError
from ...ir import DerivedTensor, Graph, Node, Rewriter, Tensor, Value, tensor
from .alphabet import Array
from .levels import Block, Grid, encode
from .recipe import Recipe, WeightType
from .sites import Readers, Site
from .storage import UINT8, Storage, packed

DOMAIN = "com.microsoft"
FAST_BITS, INT8_LEVEL = 4, 4
"""onnxruntime multiplies 4 bits in float at the speed of float; the others only at the level that rounds x to int8."""
TYPES: dict[str, WeightType] = {
    "int8": "uint8", "uint8": "uint8", "int4": "uint4", "uint4": "uint4", "int2": "uint2", "uint2": "uint2",
}  # fmt: skip
"""The types that are taken, and how they are written."""
FLOAT = int(TensorProto.FLOAT)


@dataclass(frozen=True)
class NBits:
    """How MatMulNBits is written."""

    recipe: Recipe
    """Of unsigned codes."""
    accuracy_level: int

    @classmethod
    def of(cls, recipe: Recipe, accuracy_level: int) -> NBits:
        """With as many bits as `recipe` says, or UserError if there is no room for it."""
        if recipe.type not in TYPES:
            raise UserError(f"format=nbits takes type={', '.join(TYPES)}, not {recipe.type}")
        if recipe.is_book:
            raise UserError(f"levels={recipe.levels} are looked up in a table, for which format=nbits has no place")
        if recipe.granularity not in ("auto", "block"):
            raise UserError(f"format=nbits has scales per block, not granularity={recipe.granularity}")
        if recipe.block < 16 or recipe.block & (recipe.block - 1):
            raise UserError(f"format=nbits takes a block of 16, 32, 64, ..., not {recipe.block}")
        return cls(replace(recipe, type=TYPES[recipe.type]), accuracy_level)

    @property
    def bits(self) -> int:
        """Of a code."""
        return self.recipe.alphabet.bits

    @property
    def block(self) -> int:
        """Inputs that share a scale."""
        return self.recipe.block

    @property
    def cost(self) -> str:
        """What decoding costs, for people; measured in `specs/passes/quantize-insert.md`."""
        slow = self.bits != FAST_BITS and self.accuracy_level < INT8_LEVEL
        hint = f", slowly: onnxruntime has no fast kernel for {self.bits} bits below accuracy-level={INT8_LEVEL}"
        return "decoded while it is multiplied" + (hint if slow else "")

    @property
    def storage(self) -> Storage:
        """Packed in bytes."""
        return Storage(self.recipe.alphabet, UINT8, 8 // self.bits)

    def grid(self, weight: Array, inputs: int) -> Grid:
        """The grid of a matrix whose axis `inputs` is summed over."""
        return self.recipe.grid(weight, (0, 1), np.dtype(np.float32), Block(inputs, self.block))

    def nbytes(self, grid: Grid, inputs: int) -> int:
        """Bytes of codes, scales and zero points."""
        outputs, blocks = grid.shape[1 - inputs], int(grid.array.shape[inputs])
        zeros = 0 if grid.zeros is None else -(-blocks * self.bits // 8)
        return outputs * (blocks * (self.block * self.bits // 8 + int(grid.array.itemsize)) + zeros)

    def tensors(self, source: Tensor, grid: Grid, inputs: int) -> dict[str, Tensor]:
        """Codes, computed when they are written, scales and zero points, by short names."""
        outputs, blocks = grid.shape[1 - inputs], grid.array.shape[inputs]
        shape = (outputs, blocks, self.block * self.bits // 8)
        compute = partial(_blocked, grid=grid, inputs=inputs, form=self)
        made: dict[str, Tensor] = {"q": DerivedTensor("nbits-codes", compute, (source,), UINT8, shape)}
        made["s"] = tensor(_by_output(grid.array, inputs))
        if grid.zeros is not None:
            zeros = _by_output(grid.zeros, inputs)
            filled = np.pad(zeros, ((0, 0), (0, -blocks % (8 // self.bits))))
            made["z"] = tensor(packed(filled, self.bits).reshape(outputs, -1))
        return made

    def multiply(self, rw: Rewriter, site: Site, held: dict[str, Value], outputs: int) -> None:
        """Put MatMulNBits in the place of a reader, and an Add if that is a Gemm with a bias."""
        node = site.node
        inner = site.layout.dims[site.role.input_axis or 0] if site.layout.dims is not None else None
        attributes = {"K": inner, "N": outputs, "bits": self.bits, "block_size": self.block}
        attributes["accuracy_level"] = self.accuracy_level
        inputs = [node.input(0), held["q"], held["s"], *([held["z"]] if "z" in held else [])]
        hint = node.outputs[0].name
        made = rw.insert(
            "MatMulNBits", inputs, attributes, before=node, outputs=[hint], domain=DOMAIN, origin=[node]
        ).outputs[0]
        if node.is_op("Gemm") and node.input(2) is not None:
            made = rw.insert("Add", [made, node.input(2)], before=node, outputs=[hint], origin=[node]).outputs[0]
        rw.take_over(node.outputs[0], made)
        rw.erase(node)


def inputs_axis(graph: Graph, value: Value, dtype: int, readers: Readers) -> int | str:
    """The axis of a constant matrix that all who read it sum over, if MatMulNBits can stand for every one of them; else
    why it cannot."""
    if graph.is_function:
        return "it is in a function"
    if dtype != FLOAT:
        return "it is not float"
    if readers.others or readers.strangers or readers.computed:
        return "others read it"
    found: set[int] = set()
    for site in readers.sites:
        problem = _problem(site.node)
        axes, axis = site.layout.axes, site.role.input_axis
        if problem:
            return problem
        if not site.layout.whole or axes is None or axis is None or sorted(map(str, axes)) != ["0", "1"]:
            return f"{site.node.label} reads it in another shape"
        found.add(axes[axis] or 0)
    return found.pop() if len(found) == 1 else "its readers sum over different axes"


def _problem(node: Node) -> str:
    """Why a reader is nothing that MatMulNBits does; empty if it is."""
    if not node.is_op("MatMul", "Gemm"):
        return f"{node.op_type} reads it"
    first = node.input(0)
    if first is None or first.const is not None:
        return f"{node.label} multiplies it by a constant"
    if node.is_op("Gemm") and (node.attr("transA", 0) or node.attr("alpha", 1.0) != 1 or node.attr("beta", 1.0) != 1):
        return f"{node.label} transposes or scales what it multiplies"
    if node.graph is not None and node.graph.is_function:
        return "a function reads it"
    return ""


def _by_output(array: Array, inputs: int) -> Array:
    """A row for every output channel."""
    return np.ascontiguousarray(array if inputs == 1 else array.T)


def _blocked(weight: Array, grid: Grid, inputs: int, form: NBits) -> Array:
    codes = _by_output(encode(weight, grid), inputs)
    filled = np.pad(codes, ((0, 0), (0, -codes.shape[1] % form.block)), constant_values=1 << (form.bits - 1))
    return packed(filled, form.bits).reshape(len(codes), -1, form.block * form.bits // 8)
