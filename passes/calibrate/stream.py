"""The stream: values of a model on the sample data, each handed to its observers and forgotten.

One sample is in memory at a time, and of it at most so many bytes of values: more values are observed in several walks
through the data. So memory does not grow with the number of samples, nor with that of the values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf
from operator import length_hint
from typing import Any, Protocol

import numpy as np

from ...errors import UserError
from ...ir import Backend, Model, Session, Value
from ...ir.analysis.shapes import Shapes, infer_shapes
from ...ir.taps import tapped
from ..manager.context import Context, Feed
from ..manager.deployed import deployed

Array = np.ndarray[Any, np.dtype[Any]]
MEMORY = 256 << 20
"""Bytes of values of one sample that are held at a time."""
_FIRST = 16
"""Values that are run together before their sizes are known."""
_MORE = 4
"""Times as many are run next if these took less than a sixteenth of the memory."""


class Observer(Protocol):
    """Takes note of a value, one array at a time; keeps none of them."""

    def update(self, array: Array) -> None:
        """The value in one sample; of a Loop or Scan, in all iterations, stacked."""
        ...


class PairObserver(Protocol):
    """Takes note of what a value of one model and a value of another are in the same sample."""

    def update(self, before: Array, after: Array) -> None:
        """The two values in one sample."""
        ...


Observers = Mapping[Value, Sequence[Observer]]
PairObservers = Mapping[tuple[Value, Value], Sequence[PairObserver]]


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
    """Run the model of `ctx` (or `model`) on the sample data (or on `samples`), and hand values to their observers.

    Values inside bodies are handed over where they are computed; an array is empty where the branch is not taken, and
    then not handed over. Returns the values that cannot be observed: those of functions, and what `tapped` leaves out.
    UserError if there are no data, ExecutionError if a sample cannot be run.
    """
    feeds = samples_of(ctx, purpose) if samples is None else samples
    shapes = ctx.shapes() if model is None else infer_shapes(model)
    source = ctx.model if model is None else model
    copy, names = tapped(source, observers, shapes)
    sizes = _sizes(source, names, shapes, feeds)
    known: dict[_Names, int] = {(name,): sizes[value] for value, name in names.items() if value in sizes}
    stream = _Stream(ctx, [copy], {(name,): observers[value] for value, name in names.items()}, memory, known)
    stream.run(feeds, purpose)
    return [value for value in observers if value not in names]


def observe_pairs(
    ctx: Context,
    before: Model,
    observers: PairObservers,
    *,
    purpose: str,
    memory: int = MEMORY,
    samples: Iterable[Feed] | None = None,
    shapes: Shapes | None = None,
) -> list[tuple[Value, Value]]:
    """Run the model `before` and that of `ctx` side by side, and hand over values of both together.

    Otherwise as `observe`. Both must take the same feeds. `shapes` are those of `before`, where they are known.
    """
    feeds = samples_of(ctx, purpose) if samples is None else samples
    shapes = infer_shapes(before) if shapes is None else shapes
    first, old = tapped(before, (pair[0] for pair in observers), shapes)
    second, new = tapped(ctx.model, (pair[1] for pair in observers), ctx.shapes())
    seen = {pair: each for pair, each in observers.items() if pair[0] in old and pair[1] in new}
    sizes = _sizes(before, old, shapes, feeds) | _sizes(ctx.model, new, ctx.shapes(), feeds)
    known: dict[_Names, int] = {(old[a], new[b]): sizes[a] + sizes[b] for a, b in seen if a in sizes and b in sizes}
    stream = _Stream(ctx, [first, second], {(old[a], new[b]): each for (a, b), each in seen.items()}, memory, known)
    stream.run(feeds, purpose)
    return [pair for pair in observers if pair not in seen]


def _sizes(model: Model, values: Collection[Value], shapes: Shapes, feeds: Iterable[Feed]) -> dict[Value, int]:
    """Bytes of values of the main graph in the first sample, as far as inference tells them: no run is needed for it.
    Of values so few that they are run together no one asks."""
    if len(values) <= _FIRST:
        return {}
    wanted = [value for value in values if value.graph is model.graph]
    found = {value: size for value in wanted if (size := shapes.nbytes(value)) is not None}
    if len(found) < len(wanted):
        feed = next(iter(feeds), {})
        pinned = infer_shapes(model, {name: x.shape for name, x in feed.items() if isinstance(x, np.ndarray)})
        found = {value: size for value in wanted if (size := pinned.nbytes(value)) is not None} | found
    return found


_Names = tuple[str, ...]
"""What is handed over together, by its name in each of the models."""


class _Stream:
    def __init__(
        self,
        ctx: Context,
        models: Sequence[Model],
        observers: Mapping[_Names, Any],
        memory: int,
        sizes: Mapping[_Names, int],
    ) -> None:
        self._ctx, self._models, self._observers, self._memory = ctx, models, observers, memory
        self._sizes = dict(sizes)

    def run(self, feeds: Iterable[Feed], purpose: str) -> None:
        """In groups that fit; of values whose sizes are not known, the first sample tells them."""
        if self._ctx.backend is None:
            raise UserError(f"{purpose} needs an executor")
        known = [names for names in self._observers if names in self._sizes]
        unknown = [names for names in self._observers if names not in self._sizes]
        if 0 < len(self._observers) <= _FIRST:
            if self._walk_all(self._ctx.backend, feeds, purpose):
                return
        else:
            self._walk_first(self._ctx.backend, unknown, feeds)
        count = length_hint(feeds)
        walks = [(group, 0) for group in self._groups(known)]
        walks += [(group, 1) for group in self._groups(unknown) if count != 1]
        if not count:  # nobody knows how many samples there are
            for group, start in self._ctx.progress.track(walks, purpose):
                self._walk(self._ctx.backend, group, islice(iter(feeds), start, None))
            return
        total = sum(max(0, count - start) for _, start in walks)
        steps = iter(self._ctx.progress.track(range(total), purpose))
        for group, start in walks:
            self._walk(self._ctx.backend, group, _ticking(islice(iter(feeds), start, None), steps))
        deque(steps, maxlen=0)

    def _walk_all(self, backend: Backend, feeds: Iterable[Feed], purpose: str) -> bool:
        """All samples in one walk; whether the values fitted."""
        steps = iter(self._ctx.progress.track(range(length_hint(feeds)), purpose))
        done = self._walk(backend, list(self._observers), _ticking(iter(feeds), steps), at_most=self._memory)
        deque(steps, maxlen=0)
        return done

    def _walk_first(self, backend: Backend, keys: list[_Names], feeds: Iterable[Feed]) -> None:
        """The first sample, a few values at a time, and more where these turned out to be small."""
        width = _FIRST
        while keys:
            group, keys = keys[:width], keys[width:]
            self._walk(backend, group, islice(iter(feeds), 1))
            small = sum(self._sizes.get(names, 0) for names in group) <= self._memory // _MORE**2
            width = width * _MORE if small else _FIRST

    def _walk(self, backend: Backend, keys: list[_Names], feeds: Iterator[Feed], at_most: float = inf) -> bool:
        """Hand over values of samples; stops after the first sample, and says so, if they take more than `at_most`."""
        wanted = [list(dict.fromkeys(names)) for names in zip(*keys, strict=True)]
        sessions = [deployed(backend, model, names) for model, names in zip(self._models, wanted, strict=True)]
        for number, feed in enumerate(feeds):
            self._ctx.progress.ticks += 1  # a sign of life
            found = [_run(session, feed) for session in sessions]
            for names in keys:
                arrays = [np.asarray(values[name]) for values, name in zip(found, names, strict=True)]
                self._sizes[names] = max(sum(array.nbytes for array in arrays), self._sizes.get(names, 0))
                if all(array.size for array in arrays):
                    for observer in self._observers[names]:
                        observer.update(*arrays)
            if number == 0 and sum(self._sizes[names] for names in keys) > at_most:
                return False
        return True

    def _groups(self, keys: Sequence[_Names]) -> Iterator[list[_Names]]:
        """The values in as few groups as the memory allows, in order."""
        group: list[_Names] = []
        room = self._memory
        for names in keys:
            if group and self._sizes[names] > room:
                yield group
                group, room = [], self._memory
            group.append(names)
            room -= self._sizes[names]
        if group:
            yield group


def _ticking(feeds: Iterator[Feed], steps: Iterator[int]) -> Iterator[Feed]:
    """The feeds, with a step of progress before each."""
    for feed in feeds:
        next(steps, None)
        yield feed


def _run(session: Session, feed: Feed) -> dict[str, Any]:
    fed = {port.name for port in session.inputs}
    return session.run({name: value for name, value in feed.items() if name in fed})
