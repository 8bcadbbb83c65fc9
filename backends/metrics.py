"""How far a result is from its reference: six metrics that are defined for every pair of outputs.

NaN and Inf equal only themselves at the same place; anywhere else, like another shape or dtype, they make every metric
infinitely bad (`+inf` for upper limits, `-inf` for lower ones), so that no limit can hold.

| metric  | limit | floating-point outputs, in float64             | all other outputs           |
| ------- | ----- | --------------------------------------------- | --------------------------- |
| max-abs | upper | largest absolute difference                   | number of unequal elements  |
| rel-l2  | upper | l2 norm of the difference over the reference's | share of unequal elements   |
| sqnr    | lower | -20 log10(rel-l2), in dB; +inf if equal       | -20 log10 of that share     |
| cosine  | lower | cosine of the angle between the two           | share of equal elements     |
| argmax  | lower | share of rows that agree on the largest       | share of equal elements     |
| unequal | upper | number of unequal elements                    | number of unequal elements  |

A zero reference has rel-l2 0 (cosine 1) if the result is equal, else infinity (cosine -inf); the cosine of a zero
result with another reference is 0. Rows lie along the last axis; they agree if the result's first largest element is
one of the reference's largest, and an output without rows agrees.
Complex numbers count as pairs of reals, their largest element is that of largest modulus. A sequence or map is as bad
as its worst member, and infinitely bad if its length or keys differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import UserError, did_you_mean
from .interface import Array

Values = dict[str, float]
"""The value of every metric, by its name."""


@dataclass(frozen=True)
class Metric:
    """A metric: whether small values are good (its limit is an upper one), and its value when nothing differs."""

    name: str
    small_is_good: bool
    perfect: float
    lowest: float
    highest: float = math.inf

    @property
    def hopeless(self) -> float:
        """Its value for a mismatch, which no limit admits."""
        return math.inf if self.small_is_good else -math.inf

    def worse(self, a: float, b: float) -> float:
        """The worse of two values; NaN is as bad as a mismatch."""
        if math.isnan(a) or math.isnan(b):
            return self.hopeless
        return max(a, b) if self.small_is_good else min(a, b)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        m.name: m
        for m in (
            Metric("max-abs", True, 0.0, 0.0),
            Metric("rel-l2", True, 0.0, 0.0),
            Metric("sqnr", False, math.inf, -math.inf),
            Metric("cosine", False, 1.0, -1.0, 1.0),
            Metric("argmax", False, 1.0, 0.0, 1.0),
            Metric("unequal", True, 0.0, 0.0),
        )
    }
)


@dataclass(frozen=True)
class Limit:
    """A bound on a metric: upper where small values are good, else lower."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read `rel-l2=1e-3`, `argmax=99%`, `sqnr=30dB`; UserError if the metric or the number is unknown."""
        name, equals, number = text.partition("=")
        name = name.strip()
        if name not in METRICS:
            raise UserError(f"limit {text!r}: no metric {name!r} ({', '.join(METRICS)}){did_you_mean(name, METRICS)}")
        metric = METRICS[name]
        value = _number(number.strip(), metric) if equals else math.nan
        if not math.isfinite(value) or not metric.lowest <= value <= metric.highest:
            example = "sqnr=30dB" if name == "sqnr" else f"{name}={1e-3 if metric.small_is_good else 0.99}"
            raise UserError(f"limit {text!r}: expected NAME=NUMBER with a number that {name} can have, like {example}")
        return cls(name, value)

    def __str__(self) -> str:
        """The text that `parse` reads back."""
        return f"{self.metric}={self.value!r}"

    def holds(self, value: float) -> bool:
        """Whether `value` keeps the limit; NaN and the value of a mismatch never do."""
        metric = METRICS[self.metric]
        if math.isnan(value) or value == metric.hopeless:
            return False
        return value <= self.value if metric.small_is_good else value >= self.value


def _number(text: str, metric: Metric) -> float:
    scale = 1.0
    if metric.name in ("argmax", "rel-l2", "cosine") and text.endswith("%"):
        text, scale = text[:-1], 0.01
    elif metric.name == "sqnr" and text.lower().endswith("db"):
        text = text[:-2]
    try:
        return float(text) * scale
    except ValueError:
        return math.nan


def perfect() -> Values:
    """The metrics of two outputs that are equal."""
    return {m.name: m.perfect for m in METRICS.values()}


def hopeless() -> Values:
    """The metrics of a mismatch."""
    return {m.name: m.hopeless for m in METRICS.values()}


def worst(values: Iterable[Mapping[str, float]]) -> Values:
    """The worst value of each metric; that of equal outputs if there are none."""
    out = perfect()
    for one in values:
        out = {name: metric.worse(out[name], one[name]) for name, metric in METRICS.items()}
    return out


def measure(reference: Any, result: Any) -> Values:
    """All metrics of an output: an array, None, or a list or mapping of outputs (see the module's table)."""
    if reference is None or result is None:
        return perfect() if reference is result else hopeless()
    if isinstance(reference, Mapping) and isinstance(result, Mapping):
        if reference.keys() != result.keys():
            return hopeless()
        return worst(measure(reference[key], result[key]) for key in reference)
    if _is_list(reference) and _is_list(result):
        if len(reference) != len(result):
            return hopeless()
        return worst(measure(a, b) for a, b in zip(reference, result, strict=True))
    if any(_is_list(x) or isinstance(x, Mapping) for x in (reference, result)):
        return hopeless()
    return _measure_arrays(_as_array(reference), _as_array(result))


def mismatch(reference: Any, result: Any) -> str | None:
    """What makes two outputs incomparable (kind, length, shape, dtype), in words; None if nothing does."""
    kinds = [_kind(x) for x in (reference, result)]
    if kinds[0] != kinds[1]:
        return f"{kinds[1]} instead of {kinds[0]}"
    if isinstance(reference, Mapping):
        return next(filter(None, (mismatch(reference[k], result[k]) for k in reference)), None)
    if _is_list(reference):
        return next(filter(None, map(mismatch, reference, result)), None)
    return None


def _kind(x: Any) -> str:
    if x is None:
        return "nothing"
    if isinstance(x, Mapping):
        return f"a map with keys {sorted(map(str, x))}"
    if _is_list(x):
        return f"a sequence of {len(x)}"
    array = _as_array(x)
    return f"{'strings' if array.dtype.kind == 'O' else array.dtype.name} {list(array.shape)}"


def _is_list(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def _as_array(x: Any) -> Array:
    array = np.asarray(x)
    return array.astype(object) if array.dtype.kind in "US" else array


def _is_floating(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fc" or "float" in dtype.name


def _measure_arrays(a: Array, b: Array) -> Values:
    if a.shape != b.shape or a.dtype != b.dtype:
        return hopeless()
    return _measure_floats(a, b) if _is_floating(a.dtype) else _measure_others(a, b)


def _measure_others(a: Array, b: Array) -> Values:
    count = int(np.count_nonzero(a != b))
    share = count / max(a.size, 1)
    return {
        "max-abs": float(count),
        "rel-l2": share,
        "sqnr": _decibels(share),
        "cosine": 1 - share,
        "argmax": 1 - share,
        "unequal": float(count),
    }


def _measure_floats(reference: Array, result: Array) -> Values:
    a, b = _as_reals(reference), _as_reals(result)
    special = ~(np.isfinite(a) & np.isfinite(b))
    if special.any():
        if not np.array_equal(a[special], b[special], equal_nan=True):
            return hopeless()
        a, b = np.where(special, 0, a), np.where(special, 0, b)
    unequal = int(np.count_nonzero(a != b))
    if not unequal:
        return perfect()
    with np.errstate(over="ignore"):
        largest = float(np.abs(a - b).max())
    relative = _relative_l2(a, b)
    return {
        "max-abs": largest,
        "rel-l2": relative,
        "sqnr": _decibels(relative),
        "cosine": _cosine(a, b),
        "argmax": _argmax_agreement(_magnitudes(reference), _magnitudes(result)),
        "unequal": float(unequal),
    }


def _as_reals(a: Array) -> Array:
    """All elements in one row of float64; a complex number is two."""
    if a.dtype.kind == "c":
        return np.ascontiguousarray(a.astype(np.complex128)).reshape(-1).view(np.float64)
    return a.astype(np.float64).reshape(-1)


def _magnitudes(a: Array) -> Array:
    """What arg-max compares: the modulus of complex numbers, and NaN below everything."""
    a = np.abs(a) if a.dtype.kind == "c" else a
    a = a.astype(np.float64)
    return np.where(np.isnan(a), -np.inf, a)


def _decibels(relative: float) -> float:
    if relative == 0:
        return math.inf
    return -math.inf if math.isinf(relative) else -20 * math.log10(relative)


def _scaled(a: Array) -> tuple[Array, int]:
    """`a` times a power of two that brings its largest magnitude into [0.5, 1), and the exponent taken out."""
    exponent = math.frexp(float(np.abs(a).max()))[1]
    return np.ldexp(a, -exponent), exponent


def _relative_l2(a: Array, b: Array) -> float:
    if not a.any():
        return math.inf
    quarter_a, quarter_b = np.ldexp(a, -2), np.ldexp(b, -2)
    overflows = max(float(np.abs(quarter_a).max()), float(np.abs(quarter_b).max())) > 2.0**1020
    difference, high = _scaled(quarter_a - quarter_b if overflows else a - b)
    reference, low = _scaled(quarter_a if overflows else a)
    ratio = math.sqrt(float(np.dot(difference, difference)) / float(np.dot(reference, reference)))
    try:
        return math.ldexp(ratio, high - low)
    except OverflowError:
        return math.inf


def _cosine(a: Array, b: Array) -> float:
    if not a.any():
        return -math.inf
    if not b.any():
        return 0.0
    (u, _), (v, _) = _scaled(a), _scaled(b)
    cosine = float(np.dot(u, v)) / math.sqrt(float(np.dot(u, u)) * float(np.dot(v, v)))
    return min(1.0, max(-1.0, cosine))


def _argmax_agreement(a: Array, b: Array) -> float:
    if a.ndim == 0 or a.size == 0:
        return 1.0
    chosen = np.take_along_axis(a, b.argmax(axis=-1, keepdims=True), axis=-1)
    return float(np.mean(chosen == a.max(axis=-1, keepdims=True)))
