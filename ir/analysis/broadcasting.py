"""Open shapes, some of whose sizes are unknown, and what they broadcast to together."""

from __future__ import annotations

from collections.abc import Sequence

from .dims import Dim

Open = tuple[Dim | None, ...]
"""A shape whose rank is known; None for a dimension that is not."""
Found = Sequence[Open | None]


class ImpossibleError(Exception):
    """The node fails in every run in which it is reached."""


def broadcast(shapes: Sequence[Open | None]) -> Open | None:
    """What shapes broadcast to together."""
    found = [shape for shape in shapes if shape is not None]
    if len(found) < len(shapes) or not found:
        return None
    rank = max(map(len, found))
    if all(len(shape) == 0 or shape == found[0] for shape in found):
        return found[0]
    rows = [(1,) * (rank - len(shape)) + tuple(shape) for shape in found]
    return tuple(_joint(column) for column in zip(*rows, strict=True))


def _joint(sizes: Sequence[Dim | None]) -> Dim | None:
    """A size that is neither 1 nor unknown to be 1 decides; equal ones agree."""
    others = [size for size in dict.fromkeys(sizes) if size != 1]
    if not others:
        return 1
    decided = [size for size in others if isinstance(size, int)]
    if len(decided) > 1:
        raise ImpossibleError(f"{decided} do not broadcast")
    return decided[0] if decided else others[0] if len(others) == 1 else None
