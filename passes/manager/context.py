"""Context: what a pass has at hand while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from ...ir import Backend, Model, Rewriter
from ...ir.analysis.cache import Analyses
from ...ir.analysis.shapes import Shapes, infer_shapes
from .bounds import LocalBound
from .remarks import Remarks
from .weights import WeightAccount

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


@dataclass
class Context:
    """Everything a pass may use: it changes the model through `rewriter` alone, and speaks through `remarks`,
    `weights` (what became of a constant) and `bounds` (its promise for each value that it rewrote)."""

    model: Model
    rewriter: Rewriter
    backend: Backend | None
    remarks: Remarks
    weights: WeightAccount
    rng: np.random.Generator
    samples: Iterable[Feed] | None = None
    progress: Progress = field(default_factory=Silent)
    bounds: list[LocalBound] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.analyses = Analyses(self.model)

    def shapes(self) -> Shapes:
        """Types and shapes of all values, inferred from inputs and weights alone; cached until the model changes."""
        return self.analyses.get(infer_shapes)

    def feeds(self) -> Iterator[Feed]:
        """The sample data, one feed at a time; none if there are none."""
        return iter(self.samples if self.samples is not None else ())
