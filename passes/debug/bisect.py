"""Bisection: the first pass of a pipeline that brings a condition about, then the application of a rule, then the node.

Passes are found by running growing beginnings of the pipeline. Inside the guilty pass the journal is the tool: undone
to the mark of an application it gives the model as it was before that one. One run of the pass gives several such
states, copies without weights, so that N applications take about log16 N runs. Where no application claims the guilty
edit, the states after single edits are searched. States that do not verify do not count.

Binary search finds one place where the condition comes to hold; where it comes and goes there may be others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ...errors import VerifyError
from ...ir import Application, Model, Node, Rewriter, clone_model, verify
from ..manager.base import Pass
from ..manager.context import Context
from ..manager.judging import Measurements
from ..manager.remarks import Remarks
from ..manager.runner import Runner
from ..manager.text import pass_text
from ..manager.weights import WeightAccount
from .condition import Condition
from .lab import Feeds, decides_by_measuring
from .reduce import Plan, Reduction, reduce_model

_STATES = 15
"""States inside a pass that one run of it is asked for."""


@dataclass(frozen=True)
class Guilty:
    """What brings the condition about.

    `position` counts passes from 1. `rule`, `application` and `node` are of the application of a rule, counted from 1
    in the pass; they are empty where the pass fails, or claims no application for the edit. `by` is the pass that
    applied it: in a combinator one of those inside. `slice` is the smallest model found on which `slice_pipeline` shows
    it: the pass alone or, where the error takes those before it, the pipeline up to the pass.
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
    slice_pipeline: str = ""


def bisect(model: Model, feeds: Feeds, condition: Condition, *, trials: int = 200) -> Guilty:
    """Find what brings `condition` about, which holds of `model`; the model is left as it is."""
    passes = list(condition.passes)
    found = _first(len(passes), lambda count: condition.of(passes[:count]).holds(model, feeds))
    result = Guilty(found, len(passes), pass_text(passes[found - 1]))
    scene = _Scene(model, feeds, condition.of(passes[:found]))
    if condition.when.kind not in ("fails", "crash"):
        result = scene.find(result)
    return scene.with_slice(result, trials)


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The least of 1 to `count` that holds, found by bisection; that `count` holds is known."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


class _Scene:
    """The search around the last pass of `condition`, which is the guilty one."""

    def __init__(self, model: Model, feeds: Feeds, condition: Condition) -> None:
        self._model, self._feeds, self._condition = model, feeds, condition
        *earlier, self._guilty = condition.passes
        self._judge = condition.lab.judge(model, feeds) if condition.runs_models else None
        self._before = clone_model(model)
        self._times_run = self._run(self._before, earlier, Counter()).times_run
        """How often passes ran before the guilty one, by text: their chance depends on it."""

    def find(self, result: Guilty) -> Guilty:
        """Name the application and the node, or the edit."""
        rewriter = self._again()
        made, end = rewriter.applications, rewriter.mark()
        if not end:  # it changes nothing when it runs again
            return result
        low, high = self._search([*dict.fromkeys((0, *(application.mark for application in made), end))])
        application = next((one for one in made if one.mark == low), None)
        if application is not None:
            own = _own_end(rewriter, application, high)
            if own == high or self._holds_at(own):
                return _of_application(result, application, made)
            low = own  # edits that no rule claims follow it
        _, number = self._search(range(low, high + 1))
        return _of_edit(result, rewriter, number - 1)

    def with_slice(self, result: Guilty, trials: int) -> Guilty:
        """Add the smallest model found that shows it."""
        named = {result.node} - {""}
        origins = named.union(label for node in _called(self._before, named) for label in node.origin)
        alone = self._condition.of([self._guilty])
        for model, condition, names in ((self._before, alone, named), (self._model, self._condition, origins)):
            lab, plan = condition.lab, Plan(trials, suspects=_called(model, names))
            found = reduce_model(model, self._feeds, condition.holds, lab.backend, lab.progress, plan)
            if found is not None:
                return replace(result, slice=found, slice_pipeline=",".join(map(pass_text, condition.passes)))
        return result

    def _search(self, places: Sequence[int]) -> tuple[int, int]:
        """Two neighbours among places of the journal, as far as the states between them verify: the condition does not
        hold at the first and holds at the second, as it does at the ends of `places`."""
        left = list(places)
        while len(left) > 2:
            inner = left[1:-1]
            count = min(len(inner), _STATES)
            picked = [inner[index * len(inner) // count] for index in range(count)]
            states = self._states(picked)
            sound = [left[0], *states, left[-1]]
            step = _first(len(sound) - 1, _at(sound, states, self._holds))
            low, high = sound[step - 1], sound[step]
            left = [low, *(place for place in inner if low < place < high and place not in picked), high]
        return left[0], left[-1]

    def _states(self, places: Sequence[int]) -> dict[int, Model]:
        """The model at places of the journal of the guilty pass, in order; states that do not verify are left out."""
        rewriter = self._again()
        states: dict[int, Model] = {}
        for place in reversed(places):
            rewriter.rollback(place)
            if _is_sound(rewriter.model):
                states[place] = clone_model(rewriter.model)
        return dict(reversed(states.items()))

    def _holds_at(self, place: int) -> bool:
        states = self._states([place])
        return bool(states) and self._holds(states[place])

    def _holds(self, result: Model) -> bool:
        return self._condition.compare(self._model, result, self._judge).holds

    def _again(self) -> Rewriter:
        """Run the guilty pass on a fresh copy of the model before it."""
        return self._run(clone_model(self._before), [self._guilty], self._times_run).rewriter

    def _run(self, model: Model, passes: Iterable[Pass], times_run: Counter[str]) -> Context:
        """Run passes over `model` as the condition does."""
        condition, lab = self._condition, self._condition.lab
        judge = self._judge if condition.measured or decides_by_measuring(condition.passes) else None
        data = self._feeds if condition.gives_data else None
        measurements = None if judge is None or judge.unmeasured else Measurements(judge, model)
        ctx = Context(
            model, Rewriter(model), lab.backend, Remarks(), WeightAccount(model), data, measurements=measurements
        )
        ctx.times_run = times_run.copy()
        runner = Runner(ctx, lab.seed, (), lab.verify_each, lab.idle_limit)
        for pass_ in passes:
            runner.run(pass_)
        return ctx


def _at(places: Sequence[int], states: dict[int, Model], holds: Callable[[Model], bool]) -> Callable[[int], bool]:
    return lambda index: holds(states[places[index]])


def _is_sound(model: Model) -> bool:
    try:
        verify(model)
    except VerifyError:
        return False
    return True


def _own_end(rewriter: Rewriter, application: Application, high: int) -> int:
    """The place behind the last edit of an application, before `high`."""
    return max(i for i in range(application.mark, high) if rewriter.journal[i].application is application) + 1


def _of_application(result: Guilty, guilty: Application, made: Sequence[Application]) -> Guilty:
    same = [one for one in made if (one.by, one.rule) == (guilty.by, guilty.rule)]
    return replace(
        result,
        by=guilty.by,
        rule=guilty.rule,
        application=same.index(guilty) + 1,
        applications=len(same),
        node=guilty.subject,
    )


def _of_edit(result: Guilty, rewriter: Rewriter, index: int) -> Guilty:
    """For edits that no rule claims: the node that the edit is about, or one that reads the value that it is about."""
    edit = rewriter.journal[index]
    node = edit.subject if isinstance(edit.subject, Node) else None
    if node is None:
        users = [use.user for use in getattr(edit.subject, "uses", ()) if isinstance(use.user, Node)]
        node = users[0] if users else None
    return replace(result, by=edit.by, node="" if node is None else node.label)


def _called(model: Model, names: set[str]) -> list[Node]:
    """The nodes of the main graph that are called so, or hold one that is."""
    return [node for node in model.graph.nodes if node.label in names or any(n.label in names for n in _inside(node))]


def _inside(node: Node) -> Iterable[Node]:
    return (inner for body in node.walk_bodies() for inner in body.nodes)
