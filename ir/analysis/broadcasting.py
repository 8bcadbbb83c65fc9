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
    result: Open = ()
    for shape in shapes:
        if shape is None:
            return None
        if shape and shape != result:
            result = _broadcast(result, shape)
    return result if shapes else None


def _broadcast(a: Open, b: Open) -> Open:
    long, short = (a, b) if len(a) >= len(b) else (b, a)
    before = len(long) - len(short)
    return (*long[:before], *map(_joint, long[before:], short))


def _joint(a: Dim | None, b: Dim | None) -> Dim | None:
    """A size that is neither 1 nor unknown to be 1 decides; equal ones agree."""
    if b == 1 or a == b:
        return a
    if a == 1:
        return b
    if not isinstance(a, int):
        return b if isinstance(b, int) else None
    if isinstance(b, int):
        raise ImpossibleError(f"{a} and {b} do not broadcast")
    return a
