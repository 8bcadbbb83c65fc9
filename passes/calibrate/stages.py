"""Stages: what is refitted in one walk through the sample data.

Each layer should see the input that it has after all repairs before it, which a walk for each would give; a few walks
are nearly as good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

WALKS = 16
"""Walks through the data at most, as long as the memory allows it."""
MEMORY = 1 << 30
"""Bytes of moments of one stage, at most."""
_T = TypeVar("_T")


def in_stages(items: Sequence[_T], need: Callable[[_T], int]) -> list[list[_T]]:
    """Items in order, in stages of about equal length; `need` says how many bytes the moments of one take."""
    size = -(-len(items) // WALKS) if items else 1
    found: list[list[_T]] = []
    room = 0
    for item in items:
        bytes_ = need(item)
        if not found or len(found[-1]) >= size or bytes_ > room:
            found.append([])
            room = MEMORY
        found[-1].append(item)
        room -= bytes_
    return found
