"""Alphabets: the numbers that a weight may have after it is divided by its step, and the codes that stand for them.

`Integers`: the code c stands for c - z, with a zero point z (one for all, or one for every step). `Float8`: the code is
the number. `Book`: the code is an index into a sorted table. Zero is a number of every alphabet, so what is exactly
zero stays so. `nearest` chooses, of the numbers of an alphabet, one that is nearest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from onnx import TensorProto

from ...ir.dtypes import bits_of, name_of, numpy_dtype

Array = np.ndarray[Any, np.dtype[Any]]


class Alphabet(ABC):
    """The numbers, and the codes; `dtype` is the onnx element type of the codes."""

    dtype: int

    @property
    @abstractmethod
    def lowest(self) -> float:
        """The smallest number."""

    @property
    @abstractmethod
    def highest(self) -> float:
        """The largest number: what the peak of a symmetric weight is divided by."""

    @property
    def bits(self) -> int:
        """Of one code, packed."""
        return bits_of(self.dtype)

    @property
    def name(self) -> str:
        """For people."""
        return name_of(self.dtype)

    @property
    @abstractmethod
    def held(self) -> np.dtype[Any]:
        """The numpy type in which codes are handed around, of a byte at least."""

    @abstractmethod
    def nearest(self, ratio: Array, zeros: Array | None) -> Array:
        """The codes of the numbers nearest to `ratio`, in any type that holds them exactly; `ratio` may be overwritten.
        `zeros` are zero points, broadcast over it."""

    @abstractmethod
    def numbers(self, codes: Array, zeros: Array | None, arithmetic: np.dtype[Any]) -> Array:
        """What codes stand for, exactly, in a new array of type `arithmetic`."""


@dataclass(frozen=True)
class Integers(Alphabet):
    """Codes `first` to `last`, of which `middle` stands for 0 where there are no zero points."""

    dtype: int
    first: int
    last: int
    middle: int = 0

    @property
    def lowest(self) -> float:
        """The number of the first code, without zero points."""
        return float(self.first - self.middle)

    @property
    def highest(self) -> float:
        """The number of the last code, without zero points."""
        return float(self.last - self.middle)

    @property
    def held(self) -> np.dtype[Any]:
        sign = "i" if name_of(self.dtype).startswith("int") else "u"
        return np.dtype(f"{sign}{max(1, self.bits // 8)}")

    def nearest(self, ratio: Array, zeros: Array | None) -> Array:
        np.rint(ratio, out=ratio)
        shift = self.middle if zeros is None else zeros
        if zeros is not None or self.middle:
            ratio = np.asarray(np.add(ratio, shift, dtype=ratio.dtype))
        return np.clip(ratio, self.first, self.last, out=ratio)

    def numbers(self, codes: Array, zeros: Array | None, arithmetic: np.dtype[Any]) -> Array:
        made = np.array(codes, arithmetic)
        if zeros is not None or self.middle:
            made -= np.asarray(self.middle if zeros is None else zeros, arithmetic)
        return made


@dataclass(frozen=True)
class Float8(Alphabet):
    """The finite numbers of an 8-bit float type."""

    dtype: int

    @property
    def highest(self) -> float:
        """The largest finite number."""
        return 448.0 if self.dtype == TensorProto.FLOAT8E4M3FN else 57344.0

    @property
    def lowest(self) -> float:
        """Its negative."""
        return -self.highest

    @property
    def held(self) -> np.dtype[Any]:
        return numpy_dtype(self.dtype)

    def nearest(self, ratio: Array, zeros: Array | None) -> Array:
        return np.clip(ratio, self.lowest, self.highest, out=ratio).astype(self.held)

    def numbers(self, codes: Array, zeros: Array | None, arithmetic: np.dtype[Any]) -> Array:
        return codes.astype(arithmetic)


@dataclass(frozen=True, eq=False)
class Book(Alphabet):
    """Some numbers in ascending order, zero among them; `entries` is float32, of at most 2^`width` elements."""

    entries: Array = field(repr=False)
    width: int
    label: str = "codebook"
    dtype: int = int(TensorProto.UINT8)

    @property
    def bits(self) -> int:
        return self.width

    @property
    def name(self) -> str:
        return f"{self.label} of {self.entries.size}"

    @property
    def highest(self) -> float:
        """The last entry."""
        return float(self.entries[-1])

    @property
    def lowest(self) -> float:
        """The first entry."""
        return float(self.entries[0])

    @property
    def held(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @cached_property
    def _middles(self) -> Array:
        exact = self.entries.astype(np.float64)
        return np.asarray((exact[1:] + exact[:-1]) / 2)

    def nearest(self, ratio: Array, zeros: Array | None) -> Array:
        return np.asarray(np.searchsorted(self._middles, ratio))

    def numbers(self, codes: Array, zeros: Array | None, arithmetic: np.dtype[Any]) -> Array:
        return np.asarray(self.entries[codes.astype(np.intp)], arithmetic)


def _integers(name: str) -> tuple[Integers, Integers]:
    """The symmetric alphabet of a type, as many numbers below zero as above, and the one that uses every code."""
    dtype = int(TensorProto.DataType.Value(name.upper()))
    codes = 1 << bits_of(dtype)
    first = -(codes // 2) if name.startswith("int") else 0
    middle = first + codes // 2
    return Integers(dtype, first + 1, first + codes - 1, middle), Integers(dtype, first, first + codes - 1, middle)


_INTEGERS = {name: _integers(name) for name in ("int8", "uint8", "int4", "uint4", "int2", "uint2", "int16")}
SYMMETRIC: dict[str, Alphabet] = {name: pair[0] for name, pair in _INTEGERS.items()} | {
    name: Float8(int(TensorProto.DataType.Value(name.upper()))) for name in ("float8e4m3fn", "float8e5m2")
}
"""By the name of the type: the numbers are as many below zero as above."""
AFFINE: dict[str, Integers] = {name: pair[1] for name, pair in _INTEGERS.items()}
"""By the name of the type: every code is used, and zero points say which is zero."""
INT8 = _INTEGERS["int8"][0]
"""-127 to 127: -128 is not used, so that levels and numbers are symmetric."""
