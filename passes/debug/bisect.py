"""Bisection: the first pass of a pipeline that brings a condition about, then the application of a rule, then the node.

Passes are found by running growing beginnings of the pipeline. Inside the guilty pass the journal is the tool: undone
to the mark of an application it gives the model as it was before that one. Binary search finds one place where the
condition comes to hold; where it comes and goes there may be others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import VerifyError
from ...ir import Model, Node, Rewriter, clone_model, verify
from ..manager.base import Pass, walk_passes
from ..manager.context import Context
from ..manager.judging import Judge, Measurements
from ..manager.remarks import Remarks
from ..manager.runner import Runner
from ..manager.text import pass_text
from ..manager.weights import WeightAccount
from .condition import Condition
from .lab import Feeds
from .reduce import Plan, Reduction, reduce_model


@dataclass(frozen=True)
class Guilty:
    """What brings the condition about.

    `position` counts passes from 1. `rule`, `application` and `node` are of the application of a rule, counted from 1
    in the pass; they are empty where the pass fails, or claims no application for the edit. `by` is the pass that
    applied it: in a combinator one of those inside. `slice` is the smallest model found on which the pass alone shows
    it.
    """

    position: int
    passes: int
    text: str
    by: str = ""
    rule: str = ""
    application: int = 0
    applications: int = 0
    node: str = ""
    slice: Reduction | None = None


def bisect(model: Model, feeds: Feeds, condition: Condition, *, trials: int = 200) -> Guilty:
    """Find what brings `condition` about, which holds of `model`; the model is left as it is."""
    passes = list(condition.passes)
    found = _first(len(passes), lambda count: condition.of(passes[:count]).holds(model, feeds))
    guilty, earlier = passes[found - 1], passes[: found - 1]
    before = clone_model(model)
    lab = condition.lab
    judge = lab.judge(model, feeds) if condition.runs_models else None
    if earlier:
        lab.run(earlier, before, feeds if condition.gives_data else None, judge)
    result = Guilty(found, len(passes), pass_text(guilty))
    if condition.when.kind not in ("fails", "crash"):
        result = _Inside(model, before, guilty, earlier, feeds, condition, judge).find(result)
    return _with_slice(result, before, feeds, condition.of([guilty]), trials)


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The least of 1 to `count` that holds, found by bisection; that `count` holds is known."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _with_slice(result: Guilty, before: Model, feeds: Feeds, condition: Condition, trials: int) -> Guilty:
    lab = condition.lab
    suspects = [node for node in before.graph.nodes if _is_called(node, result.node)] if result.node else []
    reduction = reduce_model(before, feeds, condition.holds, lab.backend, lab.progress, Plan(trials, suspects=suspects))
    return Guilty(**{**vars(result), "slice": reduction})


def _is_called(node: Node, name: str) -> bool:
    return node.label == name or any(inner.label == name for body in node.walk_bodies() for inner in body.nodes)


@dataclass
class _Inside:
    """The search inside the guilty pass."""

    model: Model
    before: Model
    guilty: Pass
    earlier: list[Pass]
    feeds: Feeds
    condition: Condition
    judge: Judge | None

    def find(self, result: Guilty) -> Guilty:
        rewriter = self._run()
        marks = [application.mark for application in rewriter.applications]
        ends = [*marks[1:], rewriter.mark()]
        if not marks or self._holds_at(marks[0]):
            return self._edit(result, rewriter)
        number = _first(len(marks), lambda count: self._holds_at(ends[count - 1]))
        guilty = rewriter.applications[number - 1]
        same = [a for a in rewriter.applications if (a.by, a.rule) == (guilty.by, guilty.rule)]
        return Guilty(
            result.position,
            result.passes,
            result.text,
            guilty.by,
            guilty.rule,
            same.index(guilty) + 1,
            len(same),
            guilty.subject,
        )

    def _edit(self, result: Guilty, rewriter: Rewriter) -> Guilty:
        """The first edit after which the model is sound and the condition holds, for passes that claim no rule."""
        number = _first(rewriter.mark(), self._holds_at)
        edit = rewriter.journal[number - 1]
        subject = edit.subject
        node = subject if isinstance(subject, Node) else None
        if node is None:
            users = [use.user for use in getattr(subject, "uses", ()) if isinstance(use.user, Node)]
            node = users[0] if users else None
        label = "" if node is None else node.label
        return Guilty(result.position, result.passes, result.text, edit.by, node=label)

    def _run(self) -> Rewriter:
        """The journal of the guilty pass on a fresh copy of the model before it."""
        model, lab = clone_model(self.before), self.condition.lab
        rewriter = Rewriter(model)
        measurements = None if self.judge is None or self.judge.unmeasured else Measurements(self.judge, model)
        data = self.feeds if self.condition.gives_data else None
        rng = np.random.default_rng(lab.seed)
        ctx = Context(
            model, rewriter, lab.backend, Remarks(), WeightAccount(model), rng, data, measurements=measurements
        )
        ctx.times_run = Counter(pass_text(inner) for pass_ in self.earlier for inner in walk_passes(pass_))
        if measurements is not None and self.earlier:
            measurements.forget()
        Runner(ctx, lab.seed, (), lab.verify_each, lab.idle_limit).run(self.guilty)
        return rewriter

    def _holds_at(self, mark: int) -> bool:
        """Whether the condition holds of the model as the journal had it at `mark`; not if it was unsound there."""
        rewriter = self._run()
        rewriter.rollback(mark)
        try:
            verify(rewriter.model)
        except VerifyError:
            return False
        return self.condition.compare(self.model, rewriter.model, self.judge).holds
