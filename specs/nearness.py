"""The generic judge of ROUNDING and LOSSY: is the result the same function, apart from rounding and stated bounds?

Values of the two models correspond if they have one name in one graph, the main one, a body or a function, and depend
on an input. Both models run in float64, with the value of the original put in the place of every corresponding value as
soon as it is computed. So each rewritten region is judged alone, on the inputs that it really has. Where the two sides
of a value are further apart than rounding and the bounds of the pass explain, it does not correspond after all (names
may be given to other values): it is left alone, and what reads it is judged with it. Outputs of the model always
correspond. A value that the pass says it has scaled corresponds to the original's times the factors.

What rounding explains is measured: each side runs again with every operand and result shaken by one to two units of
roundoff, and what moves a value there by d moves it by at most `ROOM` d when it is really rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from onnx import ModelProto

from ..ir import lower
from ..passes.manager.bounds import LocalBound
from .qoperators import spelled_out
from .scaled import Scaled
from .stated import Stated
from .trace import Key, Mode, Noise, Record, Slot, Tracer, is_real, slot_of

ROOM = 16
"""How much further than shaken a value may move."""
TIMES = 6
"""How often a model is shaken."""


@dataclass(frozen=True)
class Finding:
    """The error at one value over what explains it."""

    name: str
    graph: str
    ratio: float
    is_stated: bool = False
    """Whether the pass reports a bound for it."""
    why: str = ""

    def __str__(self) -> str:
        where = f"{self.name!r}" + (f" of {self.graph}" if self.graph != "main" else "")
        if self.why:
            return f"{where} {self.why}"
        return f"{where} is {self.ratio:.3g} times as far off as {'its bound' if self.is_stated else 'rounding'} allows"


@dataclass(frozen=True)
class Sides:
    """One value in one model: as it is, and shaken."""

    value: Any
    shaken: Sequence[Any]


class Nearness:
    """A model and what became of it, on one feed. ExecutionError if onnx's reference evaluator refuses one of them."""

    def __init__(
        self,
        before: ModelProto,
        after: ModelProto,
        feed: Mapping[str, Any],
        bounds: Sequence[LocalBound] = (),
        *,
        native: bool = False,
    ) -> None:
        """`native` lets every operation round as the types of the model do, instead of those on constants alone."""
        self._feed, self._native = feed, native
        self._tracers = (Tracer(before), Tracer(spelled_out(after)))
        self._names = [name for name in self._tracers[0].outputs if name in self._tracers[1].outputs]
        self._known = self._tracers[0].run(feed, Mode())
        self._scaled = Scaled(bounds)
        self._scaled.add_to(self._known)
        self._other = self._tracers[1].run(feed, Mode(known=self._known.values, forced=()))
        self._stated = Stated(lower(before), self._known, bounds)
        left = {key: self._stated.narrowed(key, value) for key, value in self._known.values.items()}
        self._values = (self._known.values, left)

    @cached_property
    def _vanished(self) -> tuple[set[bytes], set[bytes]]:
        """The constants that only one of the models has: results of arithmetic, on one side or the other."""
        one, other = (tracer.constants() for tracer in self._tracers)
        return one - other, other - one

    def judge(self) -> Finding:
        """The worst of the values that correspond; its ratio is at most 1 if the pass keeps its promise."""
        outputs: set[Slot] = {((), name) for name in self._names}
        found = {slot_of(key) for key in self._other.values}
        forced = {slot for slot in self._known.varying if slot in found} | outputs | self._stated.slots
        while True:
            findings = self._findings(forced)
            wrong = {slot for slot, finding in findings.items() if not finding.ratio <= 1}
            free = {slot for slot in wrong if slot not in outputs and not findings[slot].is_stated}
            if not free:
                return max(findings.values(), key=lambda f: np.inf if np.isnan(f.ratio) else f.ratio, default=_NONE)
            forced -= free

    def executed(self, expected: Mapping[str, Any], result: Mapping[str, Any]) -> Finding:
        """The worst of the outputs that an executor really gave, against rounding in all of both models.

        Elements that are not finite say nothing here: what overflows is for the executor to say.
        """
        runs = [self._runs(side, set(), native=True) for side in (0, 1)]
        worst = _NONE
        for name in self._names:
            sides = [Sides(side[0].values[(), name], [run.values.get(((), name)) for run in side[1:]]) for side in runs]
            ratio, why = ratio_of(*sides, found=(expected[name], result[name]))
            if not ratio <= worst.ratio:
                worst = Finding(name, "main", ratio, why=why)
        return worst

    def _findings(self, forced: set[Slot]) -> dict[Slot, Finding]:
        before, after = (self._runs(side, forced) for side in (0, 1))
        found: dict[Slot, Finding] = {}
        for key in before[0].values:
            slot = slot_of(key)
            if slot not in forced or key not in after[0].values:
                continue
            one, other = (Sides(r[0].values[key], [run.values.get(key) for run in r[1:]]) for r in (before, after))
            finding = self._compare(key, one, other)
            if slot not in found or not finding.ratio <= found[slot].ratio:
                found[slot] = finding
        return found

    def _runs(self, side: int, forced: set[Slot], *, native: bool | None = None) -> list[Record]:
        known, native = self._values[side], self._native if native is None else native
        modes = [Mode(True, None, known, forced)]
        modes += [Mode(True, Noise(n, native, self._vanished[side]), known, forced) for n in range(1, TIMES + 1)]
        records = [self._tracers[side].run(self._feed, mode) for mode in modes]
        for record in records if side == 0 else ():
            self._scaled.add_to(record)
        return records

    def _compare(self, key: Key, one: Sides, other: Sides) -> Finding:
        one = Sides(self._stated.narrowed(key, one.value), [self._stated.narrowed(key, each) for each in one.shaken])
        label, stated = self._known.labels[key], self._stated.bound(key, one.value)
        ratio, why = ratio_of(one, other, stated)
        return Finding(key[1], label, ratio, stated is not None, why)


_NONE = Finding("nothing", "main", 0.0)


def ratio_of(
    one: Sides, other: Sides, stated: Any = None, *, found: tuple[Any, Any] | None = None
) -> tuple[float, str]:
    """The largest error over what rounding and a stated bound explain, or infinity and why the two cannot be compared.

    `found` are the values to compare, if they are not those of the two sides. Elements that shaking makes finite or
    not finite, or another number where they are no floats, say nothing.
    """
    a, b = found or (one.value, other.value)
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return (0.0, "") if type(a) is type(b) else (np.inf, "is of another kind")
    shaken = [value for side in (one, other) for value in (side.value, *side.shaken)]
    if any(not isinstance(value, np.ndarray) or value.shape != a.shape for value in shaken if value is not b):
        return 0.0, ""
    if a.shape != b.shape or is_real(a) != is_real(b):
        return np.inf, f"is {b.dtype} {list(b.shape)} and was {a.dtype} {list(a.shape)}"
    if not is_real(a):
        return (np.inf, "has other elements") if (_differs(a, b) & _steady(one, other)).any() else (0.0, "")
    with np.errstate(all="ignore"):
        return _real_ratio(one, other, stated, found)


def _differs(a: Any, b: Any) -> Any:
    return np.asarray((a != b) & ~((a != a) & (b != b)))


def _steady(one: Sides, other: Sides) -> Any:
    return ~np.any([_differs(value, base) for side in (one, other) for value, base in _pairs(side)], axis=0)


def _pairs(side: Sides) -> list[tuple[Any, Any]]:
    return [(value, side.value) for value in side.shaken if value is not None]


def _real_ratio(one: Sides, other: Sides, stated: Any, found: tuple[Any, Any] | None) -> tuple[float, str]:
    a, b = found or (one.value, other.value)
    judged = np.asarray(np.ones(a.shape, bool))
    for side in (one, other):
        for value, base in _pairs(side):
            judged &= np.isfinite(value) == np.isfinite(base)
    if found is None and stated is None and (judged & (np.isfinite(a) != np.isfinite(b))).any():
        return np.inf, "is finite in one model and NaN or infinite in the other"
    for value in (a, b, one.value, other.value):
        judged &= np.isfinite(value)
    room = 1e-290 + ROOM * (_moved(one, judged) + _moved(other, judged))
    if found is not None:
        room = 2 * room + np.finfo(a.dtype).smallest_subnormal
    if stated is not None:
        judged &= np.isfinite(stated)
        room = room + np.broadcast_to(stated, a.shape)
    error = np.abs(a.astype(np.float64) - b)[judged]
    wrong = (error / room[judged])[error > 0]
    return float(wrong.max(initial=0.0)), ""


def _moved(side: Sides, judged: Any) -> Any:
    """How far shaking moves each element, and as far as the mean of them all, since chance may spare one."""
    moved = np.zeros(side.value.shape)
    for value, base in _pairs(side):
        moved = np.maximum(moved, np.abs(value - base))
    moved = np.where(judged, moved, 0)
    return moved + (moved[judged].mean() if judged.any() else 0)
