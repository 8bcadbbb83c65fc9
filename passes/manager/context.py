"""Context: what a pass has at hand while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ...ir import Backend, Model, Node, Rewriter
from ...ir.analysis.cache import Analyses
from ...ir.analysis.shapes import Shapes
from .base import Pass
from .remarks import Remarks
from .selection import Selection
from .weights import AccountMark, WeightAccount

if TYPE_CHECKING:
    from .bounds import LocalBound
    from .judging import Measurements
    from .layer_rows import LayerRow
    from .report import Step

_T = TypeVar("_T")
Feed = Mapping[str, Any]


class Progress(Protocol):
    """Shows how far a long work is."""

    def track(self, items: Sequence[_T], label: str) -> Iterable[_T]:
        """The items one by one, with a bar called `label` beside."""
        ...


class Silent:
    """No progress shown."""

    def track(self, items: Sequence[_T], label: str) -> Iterable[_T]:
        """The items."""
        return items


class Counted:
    """Progress that counts its steps, by which a pass shows that it is alive."""

    def __init__(self, progress: Progress) -> None:
        self.ticks = 0
        self._progress = progress

    def track(self, items: Sequence[_T], label: str) -> Iterable[_T]:
        """The items one by one, with a bar called `label` beside."""
        for item in self._progress.track(items, label):
            self.ticks += 1
            yield item


class Chance:
    """The random numbers of one run of a pass; made when they are first asked for."""

    def __init__(self, *seeds: int) -> None:
        self._seeds = seeds

    def afresh(self) -> Chance:
        """The same numbers once more."""
        return Chance(*self._seeds)

    @cached_property
    def rng(self) -> np.random.Generator:
        """The generator."""
        return np.random.default_rng(self._seeds)


class Checkpoint(NamedTuple):
    """A moment of a run that it can be taken back to."""

    journal: int
    account: AccountMark
    bounds: tuple[LocalBound, ...]
    """All of them: a later pass may replace those of an earlier one."""
    layers: int
    remarks: int
    times_run: Counter[str]


@dataclass(eq=False, repr=False)
class Context:
    """Everything a pass may use: it changes the model through `rewriter` alone, and speaks through `remarks`,
    `weights` (what became of a constant) and `bounds` (its promise for each value that it rewrote)."""

    model: Model
    rewriter: Rewriter
    backend: Backend | None
    remarks: Remarks
    weights: WeightAccount
    samples: Iterable[Feed] | None = None
    progress: Counted = field(default_factory=lambda: Counted(Silent()))
    bounds: list[LocalBound] = field(default_factory=list)
    layers: list[LayerRow] = field(default_factory=list)
    """What passes found and decided layer by layer, for the report."""
    measurements: Measurements | None = None
    """Errors on sample inputs; None where nothing is measured."""
    run: Callable[[Pass], Step] = field(default=lambda pass_: _no_runner(pass_))
    """Runs a pass inside the one that runs now: for combinators."""
    chance: Chance = field(default_factory=lambda: Chance(0))

    def __post_init__(self) -> None:
        self.analyses = Analyses(self.model)
        self.times_run: Counter[str] = Counter()
        """How often a pass of some text has run: each run has chance of its own."""
        self._selections: list[Selection] = []

    @property
    def rng(self) -> np.random.Generator:
        """Chance: the same for the same seed, pass and place in the run."""
        return self.chance.rng

    def shapes(self) -> Shapes:
        """Types and shapes of all values, inferred from inputs and weights alone; cached until they may change."""
        return self.analyses.shapes()

    def feeds(self) -> Iterator[Feed]:
        """The sample data, one feed at a time; none if there are none."""
        return iter(self.samples if self.samples is not None else ())

    def selects(self, node: Node) -> bool:
        """Whether the pass may act on `node`: not where an `at{...}(...)` around it leaves the node out."""
        return not self._selections or all(selection.selects(node) for selection in self._selections)

    @property
    def is_narrowed(self) -> bool:
        """Whether the pass may act on a part of the model only."""
        return bool(self._selections)

    @contextmanager
    def narrowed(self, selection: Selection) -> Iterator[None]:
        """Let passes act on the nodes of `selection` alone; what they do elsewhere is refused by the rewriter."""
        before = self.rewriter.may_touch
        self._selections.append(selection)
        self.rewriter.listeners.append(selection.listen)
        self.rewriter.may_touch = self.selects
        try:
            yield
        finally:
            self.rewriter.may_touch = before
            self.rewriter.listeners.remove(selection.listen)
            self._selections.pop()

    def checkpoint(self) -> Checkpoint:
        """This moment, for `rollback`. Costs no copy of anything large."""
        return Checkpoint(
            self.rewriter.mark(),
            self.weights.mark(),
            tuple(self.bounds),
            len(self.layers),
            len(self.remarks),
            self.times_run.copy(),
        )

    def rollback(self, to: Checkpoint) -> None:
        """Take the run back: model, account of weights, bounds, rows of layers and remarks are as they were."""
        self.rewriter.rollback(to.journal)
        self.weights.restore(to.account)
        self.bounds[:] = to.bounds
        del self.layers[to.layers :]
        self.remarks.forget_since(to.remarks)
        self.times_run = to.times_run.copy()


def _no_runner(pass_: Pass) -> Step:
    raise RuntimeError(f"{pass_.name} can only run inside a pass manager")
