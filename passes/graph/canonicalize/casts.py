"""Cast of Cast, where the first keeps every number: then the second may read what the first read.

What is out of the range of an integer has no defined conversion from floats; a number that was an integer or a boolean
of that range is in it.
"""

from __future__ import annotations

from onnx import TensorProto

from ...rewriting.pattern import op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .facts import NO, merger, removal, was_half

_T = TensorProto
_BITS: dict[int, tuple[int, int]] = {
    _T.BOOL: (0, 1),
    _T.UINT8: (0, 8),
    _T.UINT16: (0, 16),
    _T.UINT32: (0, 32),
    _T.UINT64: (0, 64),
    _T.INT8: (1, 7),
    _T.INT16: (1, 15),
    _T.INT32: (1, 31),
    _T.INT64: (1, 63),
}
"""Of integers: whether they have a sign, and how many bits beside it."""
_FRACTION: dict[int, int] = {_T.FLOAT: 24, _T.DOUBLE: 53}
"""Of floats: the bits of integers that they hold exactly."""


def keeps_all(source: int | None, to: int | None) -> bool:
    """Whether a conversion gives different numbers for different numbers, each the same number."""
    if source is None or to is None:
        return False
    if source in _BITS and to in _BITS:
        (sign, bits), (sign_to, bits_to) = _BITS[source], _BITS[to]
        return sign <= sign_to and bits <= bits_to
    if source in _BITS and to in _FRACTION:
        return _BITS[source][1] <= _FRACTION[to]
    return source in _FRACTION and to in _FRACTION and _FRACTION[source] <= _FRACTION[to]


def _guard(match: Match) -> str:
    source, middle = match.types.dtype(match["x"]), match.node("first").attr("to")
    to = match.root.attr("to")
    if not keeps_all(source, middle) or to not in (*_BITS, *_FRACTION) or was_half(match["x"], match):
        return NO
    if middle in _FRACTION and to in _BITS and to != _T.BOOL and not keeps_all(source, to):
        return NO  # from floats to integers: only what is in their range is defined
    return ""


def _there_and_back(match: Match) -> str:
    return "" if match.root.attr("to") == match.types.dtype(match["x"]) and not _guard(match) else NO


def _only_the_second(match: Match, b: Builder) -> Results:
    return b.copy(match.root, match["x"])


_TWICE = op.Cast(op.Cast(var("x")).named("first"))
CASTS: tuple[Rule, ...] = (
    removal("cast-there-and-back", _TWICE, _there_and_back, since=6),
    merger("cast-of-cast", _TWICE, _guard, _only_the_second, since=6),
)
