"""The free sizes of a model's inputs, and which to try.

A free size is a symbol, which all inputs that name it share, or an unnamed axis of one input. A symbol that reads as a
sum of others (`past_length + 1`, as exporters of decoders write) follows from them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from .domains import Size

Key = str | tuple[str, int]
"""A free size: a symbol, or an axis of an input."""
Sizes = dict[Key, int]
Shapes = Mapping[str, tuple[Size, ...]]
"""The shapes of a model's inputs, by name."""

_LADDER = (64, 32, 48, 16, 8, 96, 128, 224, 512, 4, 2, 1, 320, 640, 576, 256, 3, 5, 7, 10, 100)
_FEW = 4
_MAX_ELEMENTS = 1 << 22
_DEFAULT = 3
"""Stands in for a size that nothing determines."""


def resolve(size: Size, sizes: Sizes) -> int:
    """The number that a size stands for."""
    if isinstance(size, int):
        return size
    if isinstance(size, str) and size not in sizes and (terms := _terms(size)):
        return sum(resolve(term, sizes) for term in terms)
    return _DEFAULT if size is None else sizes.get(size, _DEFAULT)


def _terms(symbol: str) -> list[int | str]:
    """The terms of a symbol that is a sum; none if it is not one."""
    terms = [term.strip() for term in symbol.split("+")]
    if len(terms) < 2 or not all(term.isidentifier() or term.isdigit() for term in terms):
        return []
    return [int(term) if term.isdigit() else term for term in terms]


def _keys(shape: Sequence[Size]) -> Iterator[Key]:
    for size in shape:
        if isinstance(size, tuple):
            yield size
        elif isinstance(size, str):
            yield from (term for term in _terms(size) or [size] if isinstance(term, str))


class SizeSearch:
    """Proposes sizes for the free axes of some inputs; axes in `empty` may have size 0."""

    def __init__(self, shapes: Shapes, empty: set[Key]) -> None:
        self._shapes = shapes
        keys = list(dict.fromkeys(key for shape in shapes.values() for key in _keys(shape)))
        leading = {key for shape in shapes.values() for key in _keys(shape[:1])}
        self._leads = [key for key in keys if key in leading]
        self._others = [key for key in keys if key not in leading]
        self._empty = [key for key in keys if key in empty]

    @property
    def is_free(self) -> bool:
        """Whether there is anything to choose."""
        return bool(self._leads or self._others)

    def candidates(self) -> Iterator[Sizes]:
        """Sizes to try first: first axes 1 and the others alike, then all alike or one at a time."""
        return self._fitting(self._candidates())

    def variations(self, base: Sizes) -> Iterator[Sizes]:
        """Other sizes near ones that work: a larger batch, larger and smaller inputs, one size at a time."""
        return self._fitting(self._variations(base), base)

    def _candidates(self) -> Iterator[Sizes]:
        ones = dict.fromkeys((*self._leads, *self._others), 1)
        for size in _LADDER:
            yield ones | dict.fromkeys(self._others, size)
            if self._empty:
                yield ones | dict.fromkeys(self._others, size) | dict.fromkeys(self._empty, 0)
        alike = (dict.fromkeys(ones, size) for size in _LADDER)
        single = (ones | {key: size} for size in _LADDER for key in self._others)
        yield from itertools.chain(*((single, alike) if len(self._others) <= _FEW else (alike, single)))

    def _variations(self, base: Sizes) -> Iterator[Sizes]:
        leads, others = self._leads, self._others
        yield base | dict.fromkeys(leads, 2)
        yield base | {key: 2 * base[key] for key in others}
        for key in others:
            yield base | {key: 2 * base[key]}
            yield base | {key: 3 * base[key]}
        yield base | dict.fromkeys(leads, 3) | {key: max(1, base[key] // 2) for key in others}
        yield base | {key: base[key] + 1 for key in others}

    def _fitting(self, candidates: Iterator[Sizes], *seen: Sizes) -> Iterator[Sizes]:
        """The candidates without repetitions, and without inputs too large to try."""
        known = list(seen)
        for sizes in candidates:
            largest = max(math.prod(resolve(size, sizes) for size in shape) for shape in self._shapes.values())
            if sizes not in known and largest <= _MAX_ELEMENTS:
                known.append(sizes)
                yield sizes
