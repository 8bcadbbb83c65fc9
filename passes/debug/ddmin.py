"""Delta debugging: the smallest part of a list that still shows something.

Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28(2), 2002.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def ddmin(items: Sequence[T], shows: Callable[[Sequence[T]], bool]) -> list[T]:
    """A part of `items`, in their order, that shows it and of which no single item can go. `items` show it.

    Pieces are taken out, large ones first: where k of n items matter, this takes about k log n trials.
    """
    kept, pieces = list(items), 2
    while len(kept) > 1:
        for rest in _without_one_piece(kept, pieces):
            if shows(rest):
                kept, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if pieces >= len(kept):
                break
            pieces = min(2 * pieces, len(kept))
    return kept


def _without_one_piece(items: list[T], pieces: int) -> list[list[T]]:
    edges = [len(items) * piece // pieces for piece in range(pieces + 1)]
    return [items[:start] + items[end:] for start, end in itertools.pairwise(edges)]


def window(items: Sequence[T], shows: Callable[[Sequence[T]], bool]) -> list[T]:
    """A window of `items` that shows it: the shortest beginning, then its shortest end, each by bisection.

    Takes about 2 log2 n trials. What it returns shows it, whether the condition is monotone or not; where it is
    (an item that matters keeps mattering), no shorter window does.
    """
    low, high = 0, len(items)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(items[:middle]) else (middle, high)
    first, behind = 0, high
    while behind - first > 1:
        middle = (first + behind) // 2
        first, behind = (middle, behind) if shows(items[middle:high]) else (first, middle)
    return list(items[first:high])
