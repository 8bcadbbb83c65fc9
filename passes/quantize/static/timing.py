"""Times of things that do the same: in interleaved runs, of the processor where its clock is fine enough.

Time of the processor is that of this process alone, whatever else the machine does. Ratios are taken pair by pair, so
that a machine that slows down does so for both. The median of n pairs lies between the k-th least and the k-th
greatest with a probability that depends on n and k alone (the sign test; no assumption but independence).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

_FINE = 1e-6
"""Seconds: the resolution that timing needs. Where the clock of the processor is coarser, that on the wall is taken."""
DOUBT = 0.005
"""The probability that a median lies below the low end of its interval, and that it lies above the high one."""

Runs = Sequence[Callable[[], object]]


def now() -> float:
    """Seconds of the processor, or on the wall."""
    return time.process_time() if time.get_clock_info("process_time").resolution <= _FINE else time.perf_counter()


def interleaved(runs: Runs, *, seconds: float, least: int, most: int) -> list[list[float]]:
    """The seconds that each of `runs` takes, again and again in turns, for `seconds`; the first two turns warm up."""
    taken: list[list[float]] = [[] for _ in runs]
    deadline, turn = now() + seconds, -2
    while turn < least or (now() < deadline and turn < most):
        for times, run in zip(taken, runs, strict=True):
            start = now()
            run()
            if turn >= 0:
                times.append(now() - start)
        turn += 1
    return taken


@dataclass(frozen=True)
class Comparison:
    """Two versions in pairs of runs: median microseconds, and the median ratio with the ends of its interval."""

    before: float
    after: float
    ratio: float
    low: float
    high: float

    @property
    def is_slower(self) -> bool:
        """Whether the second is slower beyond doubt."""
        return self.low > 1

    def __str__(self) -> str:
        return (
            f"{self.after:.4g} us for {self.before:.4g} us, a ratio of {self.ratio:.3f} "
            f"({self.low:.3f} to {self.high:.3f})"
        )


def comparison(before: Sequence[float], after: Sequence[float]) -> Comparison:
    """Of seconds that were taken in pairs."""
    floor = 1e-9  # a run of no time at all is shorter than the clock can tell
    ratios = sorted(max(b, floor) / max(a, floor) for a, b in zip(before, after, strict=True))
    outside = outside_of(len(ratios))
    return Comparison(
        float(np.median(before)) * 1e6,
        float(np.median(after)) * 1e6,
        float(np.median(ratios)),
        ratios[outside],
        ratios[-1 - outside],
    )


def outside_of(count: int) -> int:
    """How many of `count` numbers lie below the interval of their median, and how many above."""
    total, found = 0.0, 0
    while found < (count - 1) // 2:
        total += comb(count, found) / 2**count
        if total > DOUBT:
            break
        found += 1
    return found
