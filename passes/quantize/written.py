"""What a quantized weight takes in the file: surely at most, or as it mostly is."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ...ir import Tensor, tensor
from .decode import DecodeForm
from .levels import Grid
from .storage import Storage

NODE_BYTES = 128
"""More than a node of the decoding takes in a file, its short names included."""
TENSOR_BYTES = 96
"""More than a tensor takes in a file beside its data."""
CONSTANT_BYTES = TENSOR_BYTES + 64
"""The same for one in a Constant node, as functions have them."""
MOSTLY = {NODE_BYTES: 40, TENSOR_BYTES: 20, CONSTANT_BYTES: 60}
"""What these mostly take."""
SHARED_FROM = 256
"""Bytes from which on it counts that weights share a constant."""


@dataclass(frozen=True)
class Written:
    """The parts: bytes of `data` in so many `tensors`, `nodes`, and `constants` that weights may share."""

    data: int
    tensors: int
    nodes: int
    constants: tuple[Tensor, ...] = ()
    in_function: bool = False

    @classmethod
    def decoded(
        cls, form: DecodeForm, grid: Grid, storage: Storage, dtype: int, *,
        rows: int, whole: bool, zeros: bool, in_function: bool,
    ) -> Written:  # fmt: skip
        """Of a weight of element type `dtype`, decoded as a whole or in so many places by rows."""
        nodes = whole * form.node_count(grid, storage, dtype, rows=False)
        nodes += rows * form.node_count(grid, storage, dtype, rows=True)
        data = storage.nbytes(prod(grid.shape)) + sum(one.nbytes for one in grid.stored)
        data += form.zeros(grid, storage).nbytes if zeros else 0
        constants = tuple(tensor(one) for one in form.constants(grid, storage))
        return cls(data, 1 + len(grid.stored) + zeros, nodes, constants, in_function)

    @property
    def at_most(self) -> int:
        """Bytes, with all constants."""
        frame = CONSTANT_BYTES if self.in_function else TENSOR_BYTES
        constants = sum(one.nbytes + frame for one in self.constants)
        return self.data + self.tensors * frame + self.nodes * NODE_BYTES + constants

    @property
    def mostly(self) -> int:
        """Bytes, without what is shared."""
        frame = MOSTLY[CONSTANT_BYTES if self.in_function else TENSOR_BYTES]
        own = sum(one.nbytes + frame for one in self.constants if not self._is_shared(one))
        return self.data + self.tensors * frame + self.nodes * MOSTLY[NODE_BYTES] + own

    @property
    def shared(self) -> dict[str, int]:
        """Bytes of what is shared, by what it holds. Functions share nothing."""
        frame = MOSTLY[TENSOR_BYTES]
        return {one.digest(): one.nbytes + frame for one in self.constants if self._is_shared(one)}

    def _is_shared(self, constant: Tensor) -> bool:
        return constant.nbytes >= SHARED_FROM and not self.in_function
