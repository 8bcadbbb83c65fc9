"""The form `cast`: Cast (or a table), then Mul by the scales; onnxruntime folds it once, at load.

Half precision is decoded in float and cast down: onnxruntime has no Mul in half precision to fold, and a small scale
would lose its bits there. Zero points are subtracted in between, exactly. Steps of blocks are spread along their axis
by Gather, which needs no length that blocks divide.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ...ir import Node, Rewriter, Tensor, Value, tensor
from ...ir.dtypes import bits_of
from .alphabet import Alphabet
from .decode import BFLOAT16, DOUBLE, FLOAT, Axes, DecodeForm, Stored, cast, gathered
from .levels import Array, Block, Grid
from .place import Place, Shared
from .storage import Storage, packed, storage_of


class CastForm(DecodeForm):
    """Cast and Mul, with Sub and Gather where they are needed."""

    name: ClassVar[str] = "cast"
    takes_factors: ClassVar[bool] = True
    takes_negative_scales: ClassVar[bool] = True
    cost: ClassVar[str] = "decoded once, at load"

    def arithmetic(self, dtype: int) -> np.dtype[Any]:
        return np.dtype(np.float64 if dtype == DOUBLE else np.float32)

    def axes(self, axes: Axes) -> Axes:
        return axes

    def storage(self, alphabet: Alphabet, opset: int) -> Storage:
        return storage_of(alphabet, opset)

    def operators(self, grid: Grid, storage: Storage) -> tuple[str, ...]:
        subtracts = ("Sub",) if grid.zeros is not None or storage.shift else ()
        return ("Cast", "Mul", "Gather", *storage.operators(), *subtracts)

    def opset(self, grid: Grid, storage: Storage, dtype: int) -> int:
        """Mul broadcasts from 7 on; bfloat16 came with 13."""
        return max(13 if dtype == BFLOAT16 else 7, storage.least_opset(int(np.prod(grid.shape))))

    def reads_rows(self, axes: Axes, block: Block | None, gathered: int, rank: int, index_rank: int | None) -> bool:
        """Scales along the gathered axis are gathered too; those along later axes line up from the right."""
        return all(axis >= gathered for axis in axes)

    def scales(self, array: Array, axes: Axes) -> Tensor:
        """Axes of length 1 in front are left out: they broadcast."""
        return tensor(array.reshape(array.shape[min(axes, default=array.ndim) :]))

    def zeros(self, grid: Grid, storage: Storage) -> Tensor:
        """Packed like the codes, if they are many."""
        if storage.packs_zeros(grid):
            return tensor(packed(storage.zeros(grid), 8 // storage.per_byte))
        return super().zeros(grid, storage)

    def writes_zeros(self, grid: Grid, storage: Storage, is_gemm: bool) -> bool:
        return grid.zeros is not None

    def constants(self, grid: Grid, storage: Storage) -> list[Array]:
        shift = [np.array(storage.shift)] if storage.shift and grid.zeros is None else []
        if storage.packs_zeros(grid):
            shift.append(np.array(grid.array.shape))
        return [*storage.constants(grid), *shift, *([] if grid.block is None else [_blocks(grid, grid.block)])]

    def node_count(self, grid: Grid, storage: Storage, dtype: int, *, rows: bool) -> int:
        sets = 1 + (grid.zeros is not None)
        shifts = grid.zeros is not None or bool(storage.shift)
        spread = 0 if grid.block is None else sets
        made = storage.node_count() + len(grid.stored) + 2 * shifts + 3 * storage.packs_zeros(grid) + spread
        return made + rows * (1 + sets) + (bits_of(dtype) < 32)

    def whole(self, rw: Rewriter, stored: Stored, place: Place) -> Value:
        return _product(rw, stored, stored.codes, stored.scales, stored.zeros, place)

    def rows(self, rw: Rewriter, stored: Stored, gather: Node, shared: Shared) -> Value:
        place = Place.of(gather, shared)
        codes, scales, zeros = gathered(rw, stored.codes, gather, place), stored.scales, stored.zeros
        if gather.attr("axis", 0) % stored.rank in stored.grid.axes:  # it is the first axis of the scales
            index = gather.input(1)
            scales = place.insert(rw, "Gather", [scales, index])
            zeros = None if zeros is None else place.insert(rw, "Gather", [zeros, index])
        return _product(rw, stored, codes, scales, zeros, place)


def _product(rw: Rewriter, stored: Stored, codes: Value, scales: Value, zeros: Value | None, place: Place) -> Value:
    """fl(number * scale) times the factors, of all codes or of rows of them."""
    grid, storage = stored.grid, stored.storage
    arithmetic = DOUBLE if stored.dtype == DOUBLE else FLOAT
    made = storage.numbers(rw, codes, grid, place, arithmetic)
    if zeros is not None:
        if storage.packs_zeros(grid):
            zeros = storage.unpacked(rw, zeros, grid.array.shape, place, is_centred=False)
        shift = place.insert(rw, "Cast", [zeros], {"to": arithmetic})
        made = place.insert(rw, "Sub", [made, _spread(rw, stored, shift, place)])
    elif storage.shift:
        shift = place.constant(rw, tensor(np.array(storage.shift, grid.array.dtype)), "z")
        made = place.insert(rw, "Sub", [made, shift])
    made = place.insert(rw, "Mul", [made, _spread(rw, stored, scales, place)])
    if stored.factors is not None:
        made = place.insert(rw, "Mul", [made, stored.factors])
    return cast(rw, made, arithmetic, stored.dtype, place)


def _spread(rw: Rewriter, stored: Stored, value: Value, place: Place) -> Value:
    """One for every element along the axis of blocks."""
    block = stored.grid.block
    if block is None:
        return value
    index = place.constant(rw, tensor(_blocks(stored.grid, block)), "blocks")
    return place.insert(rw, "Gather", [value, index], {"axis": block.axis - stored.rank})


def _blocks(grid: Grid, block: Block) -> Array:
    """The block of every index along the axis of blocks."""
    return (np.arange(grid.shape[block.axis]) // block.size).astype(np.int32)
