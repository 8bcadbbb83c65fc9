"""The account of weights: what became of every constant of the input model, with exactly one entry each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from ...ir import Graph, Model, Tensor
from ...ir.dtypes import name_of

ACCOUNTED_FROM = 1000
"""Bytes from which on a weight has an entry."""


class Outcome(StrEnum):
    """What became of a weight."""

    KEPT = "kept"
    QUANTIZED = "quantized"
    NARROWED = "narrowed"
    PRUNED = "pruned"
    FACTORIZED = "factorized"
    REFITTED = "refitted"
    FOLDED = "folded"
    REMOVED = "removed"


class Reason(StrEnum):
    """Why. The list is closed: `specs/passes/quantize-insert.md` explains each,
    `float.md` what they mean for 16 bits."""

    DONE = "done"
    NO_PASS = "no pass of the pipeline acts on it"
    NOT_FLOAT = "its elements are not floating point"
    NOT_A_WEIGHT = "no operator reads it as a weight"
    OVERRIDABLE = "an input of the model can override it"
    PINNED = "training information names it"
    NO_GAIN = "it would not get smaller"
    NON_FINITE = "it holds NaN or Inf"
    OUT_OF_RANGE = "its numbers or scales do not fit the element type"
    INEXACT = "its numbers need more digits than the element type has"
    EXCLUDED = "an option excludes it"
    SPARSE = "it is stored sparse"
    OPSET = "the opset has no operator for it"
    COMPUTED_INTO = "it was computed into another constant"
    DEAD = "nothing reads it"
    PRECISION = "in fewer bits it would err too much"
    NOT_RECOGNIZED = "not recognized"


class WeightEntry(NamedTuple):
    """One constant of the input model.

    `graph` is the label of the graph that holds it, `name` its value there; `nbytes` and `final_nbytes` count data in
    the file before and after. A constant that several went into is counted with the first.
    """

    graph: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    outcome: Outcome
    reason: Reason
    final_nbytes: int
    by: str = ""
    form: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {**self._asdict(), "shape": list(self.shape), "outcome": str(self.outcome), "reason": str(self.reason)}


class _Step(NamedTuple):
    outcome: Outcome
    reason: Reason
    by: str
    form: str
    into: tuple[Tensor, ...]


AccountMark = dict[Tensor, _Step]
"""What was said of each constant so far."""


class WeightAccount:
    """Follows the constants of a model through a pipeline. `by` names the pass that acts; the pass manager sets it."""

    def __init__(self, model: Model) -> None:
        self.by = ""
        self._start = [
            (tensor, WeightEntry(graph.label, name, name_of(tensor.dtype), tensor.shape, tensor.nbytes,
                                 Outcome.KEPT, Reason.NO_PASS, tensor.nbytes))
            for graph, name, tensor in constants(model)
            if tensor.nbytes >= ACCOUNTED_FROM
        ]  # fmt: skip
        self._steps: dict[Tensor, _Step] = {}

    def became(self, old: Tensor, new: Sequence[Tensor], outcome: Outcome, *, form: str = "") -> None:
        """A pass replaced `old` by `new` (several for a quantized weight: levels and scales)."""
        reason = Reason.COMPUTED_INTO if outcome is Outcome.FOLDED else Reason.DONE
        self._steps[old] = _Step(outcome, reason, self.by, form, tuple(new))

    def kept(self, tensor: Tensor, reason: Reason) -> None:
        """A pass looked at `tensor` and left it, for `reason`."""
        self._steps[tensor] = _Step(Outcome.KEPT, reason, self.by, "", (tensor,))

    def past(self, tensor: Tensor) -> Iterator[tuple[Outcome, str]]:
        """What passes did to get to a tensor, and in which form: the last first."""
        made_from = {new: (old, step) for old, step in self._steps.items() for new in step.into if new is not old}
        seen: set[Tensor] = set()
        while tensor in made_from and tensor not in seen:
            seen.add(tensor)
            tensor, step = made_from[tensor]
            yield step.outcome, step.form

    def mark(self) -> AccountMark:
        """The state of now, for `restore` after a rollback."""
        return dict(self._steps)

    def restore(self, state: AccountMark) -> None:
        """Forget what was said since `mark`."""
        self._steps = dict(state)

    def entries(self, model: Model) -> list[WeightEntry]:
        """One entry for every constant that the input model held, judged by what `model` holds now."""
        alive = {tensor for _, _, tensor in constants(model)}
        counted: set[Tensor] = set()
        return [self._entry(tensor, entry, alive, counted) for tensor, entry in self._start]

    def _entry(self, tensor: Tensor, entry: WeightEntry, alive: set[Tensor], counted: set[Tensor]) -> WeightEntry:
        steps, leaves = self._follow(tensor)
        final = 0
        for leaf in leaves:
            if leaf in alive and leaf not in counted:
                counted.add(leaf)
                final += leaf.nbytes
        told = _decisive(steps)
        if not any(leaf in alive for leaf in leaves):
            return entry._replace(outcome=Outcome.REMOVED, reason=Reason.DEAD, final_nbytes=0)
        if told is None:
            return entry._replace(final_nbytes=final)
        outcome = told.outcome
        if outcome is Outcome.KEPT and any(s.outcome is Outcome.FOLDED for s in steps):
            outcome = Outcome.FOLDED
        return entry._replace(outcome=outcome, reason=told.reason, final_nbytes=final, by=told.by, form=told.form)

    def _follow(self, tensor: Tensor) -> tuple[list[_Step], list[Tensor]]:
        """The steps that a tensor went through, and the tensors that it ended in."""
        steps: list[_Step] = []
        leaves: list[Tensor] = []
        todo = [tensor]
        seen: set[Tensor] = set()
        while todo:
            here = todo.pop()
            if here in seen:
                continue
            seen.add(here)
            step = self._steps.get(here)
            if step is not None:
                steps.append(step)
            onward = [t for t in step.into if t is not here] if step is not None else []
            if onward:
                todo.extend(onward)
            else:
                leaves.append(here)
        return steps, leaves


def _decisive(steps: Sequence[_Step]) -> _Step | None:
    """The step that tells what became of a weight: what changed it, else the last that says why it was left."""
    changed = [step for step in steps if step.outcome not in (Outcome.FOLDED, Outcome.KEPT, Outcome.REFITTED)]
    refitted = [step for step in steps if step.outcome is Outcome.REFITTED]
    kept = [step for step in steps if step.outcome is Outcome.KEPT]
    deciding = changed or refitted or kept or steps
    return deciding[-1] if deciding else None


def constants(model: Model) -> Iterator[tuple[Graph, str, Tensor]]:
    """Every tensor that a model holds, with its graph and name: initializers (dense, sparse, defaults of inputs) and
    tensors in attributes of nodes, by the node's first output (all attributes but the first get `OUTPUT.ATTRIBUTE`)."""
    for graph in model.walk_graphs():
        for value in graph.initializers:
            if value.tensor is not None:
                yield graph, value.name, value.tensor
        for node in graph.nodes:
            if node.constant is not None:
                yield graph, node.outputs[0].name, node.constant
                continue
            for name, attribute in node.attributes.items():
                if attribute.tensor is not None:
                    yield graph, f"{node.outputs[0].name}.{name}", attribute.tensor
