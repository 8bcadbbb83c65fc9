"""The nodes that turn codes back into numbers, in one of several forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto

from ...ir import Node, Rewriter, Tensor, Value
from .alphabet import Alphabet
from .levels import Array, Block, Grid
from .place import Place, Shared
from .storage import Storage

FLOAT, DOUBLE, BFLOAT16 = int(TensorProto.FLOAT), int(TensorProto.DOUBLE), int(TensorProto.BFLOAT16)
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """A weight in the file: its codes, their scales, and zero points where they are written; with the element type
    that it had. `factors` are scales along input channels."""

    grid: Grid
    storage: Storage
    dtype: int
    codes: Value
    scales: Value
    zeros: Value | None = None
    factors: Value | None = None

    @property
    def rank(self) -> int:
        """Of the weight."""
        return len(self.grid.shape)


class DecodeForm(ABC):
    """How codes are decoded."""

    name: ClassVar[str]
    takes_factors: ClassVar[bool] = False
    """Whether a second set of scales can be multiplied in."""
    takes_negative_scales: ClassVar[bool] = False
    """Whether scales need not be positive."""
    cost: ClassVar[str]
    """What decoding costs, for people."""

    @abstractmethod
    def arithmetic(self, dtype: int) -> np.dtype[Any]:
        """The type of the scales of a weight of element type `dtype`, and of their products with the numbers."""

    @abstractmethod
    def axes(self, axes: Axes) -> Axes:
        """Of the axes that are worth scales of their own, in order, those that the form can give some."""

    @abstractmethod
    def storage(self, alphabet: Alphabet, opset: int) -> Storage:
        """How codes are written in a graph of `opset`."""

    @abstractmethod
    def operators(self, grid: Grid, storage: Storage) -> tuple[str, ...]:
        """Those that decode."""

    @abstractmethod
    def opset(self, grid: Grid, storage: Storage, dtype: int) -> int:
        """The lowest opset in which the nodes exist."""

    @abstractmethod
    def reads_rows(self, axes: Axes, block: Block | None, gathered: int, rank: int, index_rank: int | None) -> bool:
        """Whether a table of `rank` axes with such steps can be decoded after rows are gathered along the axis
        `gathered`, which no block runs along."""

    @abstractmethod
    def scales(self, array: Array, axes: Axes) -> Tensor:
        """The tensor of scales (or zero points) along `axes`, from an array of the weight's rank."""

    def zeros(self, grid: Grid, storage: Storage) -> Tensor:
        """The tensor of zero points."""
        return self.scales(storage.zeros(grid), grid.axes)

    @abstractmethod
    def writes_zeros(self, grid: Grid, storage: Storage, is_gemm: bool) -> bool:
        """Whether zero points are written; `is_gemm` says that a Gemm is among the readers."""

    @abstractmethod
    def constants(self, grid: Grid, storage: Storage) -> list[Array]:
        """What decoding needs beside codes, scales and zero points; weights may share it."""

    @abstractmethod
    def node_count(self, grid: Grid, storage: Storage, dtype: int, *, rows: bool) -> int:
        """How many nodes one decoding adds at most, of the whole weight or of rows."""

    @abstractmethod
    def whole(self, rw: Rewriter, stored: Stored, place: Place) -> Value:
        """Decode all of the weight."""

    @abstractmethod
    def rows(self, rw: Rewriter, stored: Stored, gather: Node, shared: Shared) -> Value:
        """Decode what `gather` reads, and no more."""


def gathered(rw: Rewriter, table: Value, gather: Node, place: Place) -> Value:
    """What `gather` would read of another table."""
    return place.insert(rw, "Gather", [table, gather.input(1)], gather.attributes)


def cast(rw: Rewriter, value: Value, dtype: int, to: int, place: Place) -> Value:
    """`value`, of type `dtype`, in the type `to`."""
    return value if to == dtype else place.insert(rw, "Cast", [value], {"to": to})
