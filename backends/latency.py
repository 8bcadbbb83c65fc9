"""Two sessions timed against each other on one feed: interleaved runs, so that a busy machine slows both alike.

A round runs A, B, B, A; its ratio is (B + B) / (A + A), which a drift that is linear over the round leaves alone. The
latency ratio is the median over rounds. Wall-clock and CPU time are taken of the same runs: where they disagree, the
machine was busy or a session uses more than one thread.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..ir.backend import Session

_WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """What a timing found; times in microseconds, ratios and differences B against A."""

    median_a_us: float
    median_b_us: float
    ratio: float
    """Median of the rounds' ratios of wall-clock time; above 1, B is slower."""
    ratio_low: float
    """First quartile of the rounds' ratios."""
    ratio_high: float
    """Third quartile of the rounds' ratios."""
    difference_us: float
    """Median of the rounds' B - A, of one run."""
    cpu_ratio: float
    """Median of the rounds' ratios of CPU time of the whole process."""
    rounds: int
    """Rounds timed; each runs A twice and B twice."""

    def as_dict(self) -> dict[str, float | int]:
        """The fields by name, ready for JSON."""
        return asdict(self)


def latency_ratio(
    a: Session,
    b: Session,
    feed: Mapping[str, Any],
    *,
    seconds: float = 2.0,
    min_rounds: int = 5,
    max_rounds: int = 10_000,
) -> Latency:
    """Time `b` against `a` on `feed`, for about `seconds` after a warm-up.

    At least `min_rounds` rounds are run however long they take, and at most `max_rounds`. Raises ExecutionError if a
    session refuses the feed.
    """
    for _ in range(_WARM_UP):
        a.run(feed)
        b.run(feed)
    wall: list[tuple[float, float]] = []
    cpu: list[tuple[float, float]] = []
    with _garbage_collection_off():
        deadline = time.perf_counter() + seconds
        while len(wall) < min_rounds or (len(wall) < max_rounds and time.perf_counter() < deadline):
            runs = [_timed(session, feed) for session in (a, b, b, a)]
            (a1, b1, b2, a2), (ca1, cb1, cb2, ca2) = zip(*runs, strict=True)
            wall.append((a1 + a2, b1 + b2))
            cpu.append((ca1 + ca2, cb1 + cb2))
    return _summary(np.array(wall), np.array(cpu))


def _timed(session: Session, feed: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of wall-clock and of CPU time that one run takes."""
    cpu = time.process_time()
    wall = time.perf_counter()
    session.run(feed)
    wall = time.perf_counter() - wall
    return wall, time.process_time() - cpu


def _summary(wall: NDArray[np.float64], cpu: NDArray[np.float64]) -> Latency:
    """Of the rounds' seconds, shape (rounds, 2): the two runs of A together, and those of B."""
    low, middle, high = np.quantile(_ratios(wall), (0.25, 0.5, 0.75))
    median_a, median_b = np.median(wall, axis=0) / 2 * 1e6
    return Latency(
        median_a_us=float(median_a),
        median_b_us=float(median_b),
        ratio=float(middle),
        ratio_low=float(low),
        ratio_high=float(high),
        difference_us=float(np.median(wall[:, 1] - wall[:, 0])) / 2 * 1e6,
        cpu_ratio=float(np.median(_ratios(cpu))),
        rounds=len(wall),
    )


def _ratios(rounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """B / A per round; a clock that did not advance counts as one tick of a nanosecond."""
    ticks: NDArray[np.float64] = np.maximum(rounds, 1e-9)
    return ticks[:, 1] / ticks[:, 0]


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
