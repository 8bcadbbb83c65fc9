"""The stream: values of a model on the sample data, each handed to its observers and forgotten.

One sample is in memory at a time, and of it at most so many bytes of values: more values are observed in several walks
through the data. So memory does not grow with the number of samples, nor with that of the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np

from ...errors import UserError
from ...ir import Model, Value
from ...ir.taps import tapped
from ..manager.context import Context, Feed

Array = np.ndarray[Any, np.dtype[Any]]
MEMORY = 256 << 20
"""Bytes of values of one sample that are held at a time."""
_FIRST = 16
"""Values that are run together before their sizes are known."""


class Observer(Protocol):
    """Takes note of a value, one array at a time; keeps none of them."""

    def update(self, array: Array) -> None:
        """The value in one sample; of a Loop or Scan, in all iterations, stacked."""
        ...


Observers = Mapping[Value, Sequence[Observer]]


def samples_of(ctx: Context, purpose: str) -> Iterable[Feed]:
    """The sample data; UserError if there are none."""
    if ctx.samples is None:
        raise UserError(f"{purpose} needs sample data: give --data FILE.npz, or --data random for generated inputs")
    return ctx.samples


def observe(
    ctx: Context,
    observers: Observers,
    *,
    purpose: str,
    memory: int = MEMORY,
    samples: Iterable[Feed] | None = None,
    model: Model | None = None,
) -> list[Value]:
    """Run the model of `ctx` (or another `model`) on the sample data and hand the values to their observers.

    Values inside bodies are handed over where they are computed; an array is empty where the branch is not taken, and
    then not handed over. Returns the values that cannot be observed: those of functions, and what `tapped` leaves out.
    UserError if there are no data, ExecutionError if a sample cannot be run.
    """
    feeds = samples_of(ctx, purpose) if samples is None else samples
    if ctx.backend is None:
        raise UserError(f"{purpose} needs an executor")
    copy, names = tapped(ctx.model if model is None else model, observers, ctx.shapes())
    stream = _Stream(ctx, copy, {name: observers[value] for value, name in names.items()}, memory)
    stream.run(feeds, purpose)
    return [value for value in observers if value not in names]


class _Stream:
    def __init__(self, ctx: Context, model: Model, observers: Mapping[str, Sequence[Observer]], memory: int) -> None:
        self._ctx, self._model, self._observers, self._memory = ctx, model, observers, memory
        self._sizes: dict[str, int] = {}

    def run(self, feeds: Iterable[Feed], purpose: str) -> None:
        """The first sample tells the sizes; the others go through the groups that fit."""
        names = list(self._observers)
        for start in range(0, len(names), _FIRST):
            self._walk(names[start : start + _FIRST], islice(iter(feeds), 1))
        groups = list(self._groups())
        for group in self._ctx.progress.track(groups, purpose):
            self._walk(group, islice(iter(feeds), 1, None))

    def _walk(self, names: list[str], feeds: Iterator[Feed]) -> None:
        assert self._ctx.backend is not None
        session = self._ctx.backend.prepare(self._model, outputs=names, optimize=True)
        fed = {port.name for port in session.inputs}
        for feed in self._counted(feeds):
            found = session.run({name: value for name, value in feed.items() if name in fed})
            for name in names:
                array = np.asarray(found.pop(name))
                self._sizes[name] = max(array.nbytes, self._sizes.get(name, 0))
                if array.size:
                    for observer in self._observers[name]:
                        observer.update(array)

    def _counted(self, feeds: Iterator[Feed]) -> Iterator[Feed]:
        """The feeds, each a sign of life."""
        for feed in feeds:
            self._ctx.progress.ticks += 1
            yield feed

    def _groups(self) -> Iterator[list[str]]:
        """The values in as few groups as the memory allows, in order."""
        group: list[str] = []
        room = self._memory
        for name in self._observers:
            if group and self._sizes[name] > room:
                yield group
                group, room = [], self._memory
            group.append(name)
            room -= self._sizes[name]
        if group:
            yield group
