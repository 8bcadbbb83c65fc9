"""How the codes of a weight are written, and the nodes that make plain integers or numbers of them again.

Where the opset has the element type, codes are written in it. Below, narrow integers are packed into bytes, the first
in the lowest bits, and a table with a row for each of the 256 bytes unpacks them: Reshape(Gather(table, Cast(bytes))).
Books, and 8-bit floats below opset 19, are looked up: Gather(book, Cast(codes)). onnxruntime folds all of it at load.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
from onnx import TensorProto, helper

from ...ir import DerivedTensor, Rewriter, Tensor, Value, tensor
from ...ir.dtypes import bits_of, numpy_dtype, packed_nbytes
from .alphabet import Alphabet, Array, Book, Float8, Integers
from .levels import Grid, encode
from .place import Place

UINT8, INT32, INT64 = int(TensorProto.UINT8), int(TensorProto.INT32), int(TensorProto.INT64)
NARROW = {
    int(TensorProto.INT4): 21,
    int(TensorProto.UINT4): 21,
    int(TensorProto.INT2): 25,
    int(TensorProto.UINT2): 25,
    int(TensorProto.FLOAT8E4M3FN): 19,
    int(TensorProto.FLOAT8E5M2): 19,
}
"""Element types that came with an opset of their own: for Cast and for DequantizeLinear alike."""
INDICES = {2: int(TensorProto.UINT2), 4: int(TensorProto.UINT4), 8: UINT8}
"""The types of indices into a book, by their bits."""
MANY = 1024
"""Zero points from which on it pays to pack them."""


@dataclass(frozen=True, eq=False)
class Storage:
    """Codes of `alphabet` in elements of type `dtype`, `per_byte` of them packed into one if that is not 1; `book` has
    the number of every code, if they are looked up."""

    alphabet: Alphabet
    dtype: int
    per_byte: int = 1
    book: Array | None = None

    @property
    def opset(self) -> int:
        """The lowest that has the element type."""
        return NARROW.get(self.dtype, 1)

    @property
    def ir_version(self) -> int:
        """The lowest that has the element type; 0 if all have it."""
        if self.dtype not in NARROW:
            return 0
        return int(helper.find_min_ir_version_for([helper.make_opsetid("", self.opset)]))

    @property
    def is_plain(self) -> bool:
        """Whether Gather reads rows of the codes as they are written."""
        return self.per_byte == 1 and self.book is None and self.dtype not in NARROW

    def operators(self) -> tuple[str, ...]:
        """Those of `numbers`."""
        more = ("Gather",) if self.book is not None or self.per_byte > 1 else ()
        return ("Cast", *more, *(("Reshape", "Slice") if self.per_byte > 1 else ()))

    def least_opset(self, size: int) -> int:
        """The lowest that has all of `operators`, for so many codes: Slice takes its ends as inputs from 10 on."""
        return max(self.opset, 10 if size % self.per_byte else 1)

    def node_count(self) -> int:
        """How many nodes `numbers` adds at most."""
        return 1 + (0 if self.book is None else 1) + (5 if self.per_byte > 1 else 0)

    def constants(self, grid: Grid) -> list[Array]:
        """What `numbers` needs beside the codes; weights may share it."""
        made = [] if self.book is None else [self.book]
        if self.per_byte > 1:
            made += [self._unpacking(grid.zeros is None), np.array(grid.shape)]
            made += [np.zeros(1, np.int64)] * 3 * bool(prod(grid.shape) % self.per_byte)
        return made

    def nbytes(self, size: int) -> int:
        """Bytes of so many codes."""
        return packed_nbytes(self.dtype, -(-size // self.per_byte))

    def tensor(self, source: Tensor, grid: Grid) -> Tensor:
        """The codes of `source`, computed when they are written."""
        if self.per_byte > 1:
            shape: tuple[int, ...] = (-(-source.size // self.per_byte),)
            return DerivedTensor(
                "packed-codes", partial(_packed, grid=grid, bits=8 // self.per_byte), (source,), UINT8, shape
            )
        return DerivedTensor("codes", partial(_coded, grid=grid, dtype=self.dtype), (source,), self.dtype, source.shape)

    def zeros(self, grid: Grid) -> Array:
        """The zero points, in a type that can be written: that of the codes, or the one that they are held in."""
        made = np.full(grid.array.shape, _middle(self.alphabet)) if grid.zeros is None else grid.zeros
        return made.astype(self.alphabet.held if self.per_byte > 1 else numpy_dtype(self.dtype))

    def packs_zeros(self, grid: Grid) -> bool:
        """Whether zero points are packed as codes are: where there are many, and they fill whole bytes."""
        packs = self.per_byte > 1 and grid.zeros is not None
        return packs and grid.array.size >= MANY and grid.array.size % self.per_byte == 0

    def numbers(self, rw: Rewriter, codes: Value, grid: Grid, place: Place, arithmetic: int) -> Value:
        """What codes stand for, in the type `arithmetic`; zero points are still to be subtracted, if the grid has some
        or the alphabet's middle code is not 0 and codes are written one by one."""
        if self.per_byte > 1:
            codes = self.unpacked(rw, codes, grid.shape, place, is_centred=grid.zeros is None)
        if self.book is None:
            return place.insert(rw, "Cast", [codes], {"to": arithmetic})
        index = place.insert(rw, "Cast", [codes], {"to": INT32})
        book = self.book.astype(helper.tensor_dtype_to_np_dtype(arithmetic))
        return place.insert(rw, "Gather", [place.constant(rw, tensor(book), "book"), index])

    @property
    def shift(self) -> int:
        """The code that stands for zero in what `numbers` gives where there are no zero points."""
        return 0 if self.per_byte > 1 or self.book is not None else _middle(self.alphabet)

    def unpacked(self, rw: Rewriter, codes: Value, shape: tuple[int, ...], place: Place, *, is_centred: bool) -> Value:
        """Codes of `shape`, one in each element; less the middle code if `is_centred`."""
        size = prod(shape)
        table = place.constant(rw, tensor(self._unpacking(is_centred)), "unpack")
        index = place.insert(rw, "Cast", [codes], {"to": INT32})
        made = place.insert(rw, "Gather", [table, index])
        if size % self.per_byte:
            made = place.insert(rw, "Reshape", [made, _numbers(rw, place, [-1], "shape")])
            made = place.insert(
                rw, "Slice", [made, _numbers(rw, place, [0], "start"), _numbers(rw, place, [size], "end")]
            )
        return place.insert(rw, "Reshape", [made, _numbers(rw, place, shape, "shape")])

    def _unpacking(self, is_centred: bool) -> Array:
        """For every byte the codes in it, as int8 of shape (256, per_byte); less the middle code if `is_centred`."""
        bits = 8 // self.per_byte
        codes = (np.arange(256)[:, None] >> (bits * np.arange(self.per_byte))) & ((1 << bits) - 1)
        if self.alphabet.held.kind == "i":
            codes -= (codes >> (bits - 1)) << bits
        return (codes - (_middle(self.alphabet) if is_centred else 0)).astype(np.int8)


def storage_of(alphabet: Alphabet, opset: int) -> Storage:
    """How codes are written for Cast and Gather to decode, at most of `opset`."""
    dtype = INDICES[alphabet.bits] if isinstance(alphabet, Book) else alphabet.dtype
    book = alphabet.entries if isinstance(alphabet, Book) else None
    if opset >= NARROW.get(dtype, 1):
        return Storage(alphabet, dtype, 1, book)
    if isinstance(alphabet, Float8):
        numbers = np.arange(256, dtype=np.uint8).view(alphabet.held).astype(np.float32)
        return Storage(alphabet, UINT8, 1, np.where(np.isfinite(numbers), numbers, 0))
    return Storage(alphabet, UINT8, 8 // bits_of(dtype), book)


def _middle(alphabet: Alphabet) -> int:
    return alphabet.middle if isinstance(alphabet, Integers) else 0


def _coded(weight: Array, grid: Grid, dtype: int) -> Array:
    codes = encode(weight, grid)
    as_bytes = isinstance(grid.alphabet, Float8) and dtype == UINT8
    return np.asarray(codes.view(np.uint8) if as_bytes else codes.astype(numpy_dtype(dtype), copy=False))


def packed(codes: Array, bits: int) -> Array:
    """Codes of one byte each as a row of bytes, the first in the lowest bits; the last is filled with zero bits."""
    count = 8 // bits
    row = codes.reshape(-1).view(np.uint8) & np.uint8((1 << bits) - 1)
    row = np.pad(row, (0, -row.size % count)).reshape(-1, count)
    shifted = row << (bits * np.arange(count, dtype=np.uint8))
    return np.asarray(np.bitwise_or.reduce(shifted, axis=1, dtype=np.uint8))


def _packed(weight: Array, grid: Grid, bits: int) -> Array:
    return packed(encode(weight, grid), bits)


def _numbers(rw: Rewriter, place: Place, numbers: tuple[int, ...] | list[int], hint: str) -> Value:
    return place.constant(rw, tensor(np.array(numbers, np.int64)), hint)
