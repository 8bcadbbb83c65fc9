"""Recorded values: what a model gives on the sample data, run once and kept, if that is little enough.

A refit in stages compares the model as it was with the model as it is, again and again: what was does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ...ir import Model, Value
from ..manager.context import Context, Feed
from .stream import Observer, PairObserver, observe, samples_of

Array = np.ndarray[Any, np.dtype[Any]]
MEMORY = 256 << 20
"""Bytes of values that are kept at most."""


class Recorded:
    """Values of the main graph of a model, an array for each sample; none of them if they take too much memory."""

    def __init__(self, ctx: Context, model: Model, values: Iterable[Value], *, purpose: str) -> None:
        """Run `model` on the sample data of `ctx`."""
        room = _Room(MEMORY)
        kept = {value: _Kept(room) for value in values if value.graph is model.graph}
        feeds = _WhileRoom(samples_of(ctx, purpose), room)
        observe(ctx, {value: [each] for value, each in kept.items()}, purpose=purpose, samples=feeds, model=model)
        self._arrays = {} if room.left < 0 else {value: each.arrays for value, each in kept.items()}

    def __contains__(self, value: Value) -> bool:
        """Whether a value is known."""
        return bool(self._arrays.get(value))

    def beside(self, value: Value, pairs: Iterable[PairObserver]) -> Observer:
        """An observer of what has become of `value`, which hands both over in each sample."""
        return _Beside(iter(self._arrays[value]), list(pairs))


class _Room:
    def __init__(self, left: int) -> None:
        self.left = left


class _Kept:
    def __init__(self, room: _Room) -> None:
        self._room = room
        self.arrays: list[Array] = []

    def update(self, array: Array) -> None:
        self._room.left -= array.nbytes
        if self._room.left < 0:
            self.arrays.clear()
        else:
            self.arrays.append(array)


class _WhileRoom:
    def __init__(self, feeds: Iterable[Feed], room: _Room) -> None:
        self._feeds, self._room = feeds, room

    def __iter__(self) -> Iterator[Feed]:
        for feed in self._feeds:
            if self._room.left < 0:
                return
            yield feed


class _Beside:
    def __init__(self, before: Iterator[Array], pairs: list[PairObserver]) -> None:
        self._before, self._pairs = before, pairs

    def update(self, array: Array) -> None:
        before = next(self._before)
        for pair in self._pairs:
            pair.update(before, array)
