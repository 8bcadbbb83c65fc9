"""The form `dq`: DequantizeLinear, which gives float, and a Cast to other types. onnxruntime decodes at every call.

Scales are positive, as TensorRT wants them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto

from ...ir import Node, Rewriter, Tensor, Value, tensor
from .alphabet import Alphabet
from .decode import BFLOAT16, FLOAT, Axes, DecodeForm, Stored, cast, gathered
from .levels import Array, Block, Grid
from .place import Place, Shared
from .storage import Storage

INT16 = int(TensorProto.INT16)


class DequantizeForm(DecodeForm):
    """DequantizeLinear, per tensor, along one axis, or in blocks."""

    name: ClassVar[str] = "dq"
    cost: ClassVar[str] = "decoded at every call"

    def arithmetic(self, dtype: int) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def axes(self, axes: Axes) -> Axes:
        """One at most: the last, as batches and directions come first."""
        return axes[-1:]

    def storage(self, alphabet: Alphabet, opset: int) -> Storage:
        return Storage(alphabet, alphabet.dtype)

    def operators(self, grid: Grid, storage: Storage) -> tuple[str, ...]:
        return ("DequantizeLinear", "Cast", "Gather")

    def opset(self, grid: Grid, storage: Storage, dtype: int) -> int:
        """Per tensor from 10 on; per axis, and bfloat16, from 13 on; blocks and 16 bits from 21 on."""
        if grid.block is not None or storage.dtype == INT16:
            return max(21, storage.opset)
        return max(13 if grid.axes or dtype == BFLOAT16 else 10, storage.opset)

    def reads_rows(self, axes: Axes, block: Block | None, gathered: int, rank: int, index_rank: int | None) -> bool:
        """The axis of the scales, which is counted from the right, must come after the gathered one. A one-dimensional
        input would be decoded per tensor whatever its axis, so rows must have two axes at least. Scales of blocks have
        every axis of the table, and are gathered too."""
        has_rows = rank > 2 or bool(index_rank)
        if block is not None:
            return has_rows
        return not axes or (axes[0] > gathered and has_rows)

    def scales(self, array: Array, axes: Axes) -> Tensor:
        return tensor(array.reshape([array.shape[axis] for axis in axes]))

    def writes_zeros(self, grid: Grid, storage: Storage, is_gemm: bool) -> bool:
        """onnxruntime makes QGemm only of a weight with zero points; those of unsigned codes are not 0."""
        return grid.zeros is not None or bool(storage.shift) or (is_gemm and storage.alphabet.held.kind in "iu")

    def constants(self, grid: Grid, storage: Storage) -> list[Array]:
        return []

    def node_count(self, grid: Grid, storage: Storage, dtype: int, *, rows: bool) -> int:
        return 1 + (dtype != FLOAT) + 2 * (rows and grid.block is not None)

    def whole(self, rw: Rewriter, stored: Stored, place: Place) -> Value:
        return _dequantized(rw, stored, stored.codes, stored.scales, stored.zeros, place)

    def rows(self, rw: Rewriter, stored: Stored, gather: Node, shared: Shared) -> Value:
        place = Place.of(gather, shared)
        codes, scales, zeros = gathered(rw, stored.codes, gather, place), stored.scales, stored.zeros
        if stored.grid.block is not None:
            scales = gathered(rw, scales, gather, place)
            zeros = None if zeros is None else gathered(rw, zeros, gather, place)
        return _dequantized(rw, stored, codes, scales, zeros, place)


def _dequantized(rw: Rewriter, stored: Stored, codes: Value, scales: Value, zeros: Value | None, place: Place) -> Value:
    grid, attributes = stored.grid, {}
    if grid.block is not None:
        attributes = {"axis": grid.block.axis - stored.rank, "block_size": grid.block.size}
    elif grid.axes:
        attributes = {"axis": grid.axes[0] - stored.rank}
    inputs = [codes, scales] + ([] if zeros is None else [zeros])
    return cast(rw, place.insert(rw, "DequantizeLinear", inputs, attributes), FLOAT, stored.dtype, place)
