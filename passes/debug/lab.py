"""The lab: what trials of a pipeline need from the world that runs models."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...ir import Backend, Model
from ..manager.base import Pass, walk_passes
from ..manager.context import Feed, Progress, Silent
from ..manager.judging import Judge
from ..manager.manager import IDLE_LIMIT, PassManager
from ..manager.runner import VerifyEach

Feeds = Sequence[Feed]
"""Inputs of a model, one mapping for each run; none at all where nothing is run."""
JudgeOf = Callable[[Model, Feeds], Judge]
"""Makes the judge of a model on given feeds."""


@dataclass(frozen=True)
class Ending:
    """How a process that ran a pipeline ended: its exit code, negative where a signal did it, and whether the run was
    done."""

    code: int
    came_to_end: bool

    @property
    def kind(self) -> str:
        """What ended it: the name of a signal, or an exit code."""
        return f"exit code {self.code}" if self.code >= 0 else _signal_name(-self.code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


RunApart = Callable[[Model, Sequence[Pass], Feeds], Ending]
"""Runs a pipeline over a model, and the result, in a process of its own."""


@dataclass(frozen=True)
class Lab:
    """How trials run: with which executor and seed, and what is checked after each pass."""

    backend: Backend
    judge: JudgeOf
    run_apart: RunApart
    seed: int = 0
    verify_each: VerifyEach = "structure"
    idle_limit: float | None = IDLE_LIMIT
    progress: Progress = Silent()

    def run(self, passes: Sequence[Pass], model: Model, data: Iterable[Feed] | None, judge: Judge | None) -> None:
        """Run `passes` over `model`, which is changed. Raises what a run of the pass manager raises."""
        manager = PassManager(
            list(passes), self.backend, seed=self.seed, verify_each=self.verify_each, idle_limit=self.idle_limit
        )
        manager.run(model, data=data, judge=judge)


def decides_by_measuring(passes: Iterable[Pass]) -> bool:
    """Whether a run of the passes needs a judge."""
    return any(inner.needs_judge for pass_ in passes for inner in walk_passes(pass_))
