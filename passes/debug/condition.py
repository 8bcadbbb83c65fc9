"""Conditions: what `--when` asks of a pipeline's effect on a model.

| text | holds if |
| --- | --- |
| `rel-l2>1e-3`, `sqnr<30dB` | the metric of the result against the input is beyond the number |
| `fails`, `fails=TEXT` | a pass fails, or leaves an unsound graph (TEXT is part of the message) |
| `invalid` | onnx's checker refuses the result, but not the input |
| `refused` | the executor refuses the result, but not the input |
| `crash` | the process that runs the pipeline and its result is ended, by a signal or by itself, before they are done |
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from onnx import checker, shape_inference

from ...errors import OnnxpressError, UserError, did_you_mean
from ...ir import Model, SparseTensor, clone_model, emit, strip_weights
from ...ir.proto import file_size
from ..manager.base import Pass
from ..manager.judging import Judge
from ..manager.units import read_float
from .failure import Failure
from .lab import Ending, Feeds, Lab, decides_by_measuring

KINDS = ("fails", "invalid", "refused", "crash")
_METRIC = re.compile(r"([^<>=\s]+)\s*([<>])\s*(\S+)")
_CHECKED_BELOW = 2**31 - 2**24
"""Bytes of a message that onnx's checker can take."""


@dataclass(frozen=True)
class When:
    """What is asked: one of `KINDS`, or a metric above or below a number."""

    kind: str
    text: str = ""
    """What the message of a failure holds."""
    above: bool = False
    value: float = math.nan

    @classmethod
    def parse(cls, text: str, metrics: Collection[str]) -> When:
        """Read `rel-l2>1e-3` or a word of `KINDS`; UserError with what is accepted."""
        words = text.strip()
        kind, equals, rest = words.partition("=")
        if kind.strip() == "fails" and (rest or not equals):
            return cls("fails", rest)
        if words in KINDS:
            return cls(words)
        match = _METRIC.fullmatch(words)
        if match is None:
            raise UserError(
                f"--when {text!r}: expected METRIC>NUMBER or METRIC<NUMBER ({', '.join(metrics)}), or one of "
                f"{', '.join(KINDS)}, fails=TEXT{did_you_mean(words, (*metrics, *KINDS))}"
            )
        name, sign, number = match.groups()
        if name not in metrics:
            raise UserError(f"--when {text!r}: no metric {name!r} ({', '.join(metrics)}){did_you_mean(name, metrics)}")
        try:
            value = read_float(number.removesuffix("dB") if name == "sqnr" else number)
        except ValueError as error:
            raise UserError(f"--when {text!r}: {number!r} is {error}") from None
        if math.isnan(value):
            raise UserError(f"--when {text!r}: nothing is above or below nan")
        return cls(name, above=sign == ">", value=value)

    @property
    def is_metric(self) -> bool:
        """Whether it asks for the value of a metric."""
        return self.kind not in KINDS

    def __str__(self) -> str:
        """The text that `parse` reads back."""
        if self.is_metric:
            return f"{self.kind}{'>' if self.above else '<'}{self.value!r}"
        return f"{self.kind}={self.text}" if self.text else self.kind


@dataclass(frozen=True)
class Finding:
    """Whether a condition holds, and what was seen, as the end of a sentence."""

    holds: bool
    words: str


@dataclass(frozen=True)
class Condition:
    """A condition on what a pipeline makes of a model.

    `gives_data`: passes get the feeds as sample data. `measured`: a run is measured where its outcome does not ask for
    it, as the failure of a pass that breaks its promise does. `failure`: only this very failure counts.
    """

    when: When
    passes: Sequence[Pass]
    lab: Lab
    gives_data: bool = False
    measured: bool = False
    failure: Failure | None = None

    @property
    def runs_models(self) -> bool:
        """Whether feeds are needed: whether anything is run on them."""
        wanted = self.gives_data or self.measured or decides_by_measuring(self.passes)
        return wanted or self.when.is_metric or self.when.kind in ("refused", "crash")

    def of(self, passes: Sequence[Pass]) -> Condition:
        """The same condition on another pipeline."""
        return replace(self, passes=passes)

    def holds(self, model: Model, feeds: Feeds) -> bool:
        """Whether it holds of `model`, which is left as it is."""
        return self.examine(model, feeds).holds

    def examine(self, model: Model, feeds: Feeds) -> Finding:
        """Whether it holds of `model`, which is left as it is, and what was seen."""
        if self.when.kind == "crash":
            return _crash(self.lab.run_apart(model, self.passes, feeds), self.failure)
        needs_judge = self.measured or decides_by_measuring(self.passes)
        judge = self.lab.judge(model, feeds) if needs_judge or self._compares else None
        if judge is not None and judge.unmeasured and self._compares:
            return Finding(False, f"nothing can be measured: {judge.unmeasured}")
        result = clone_model(model)
        try:
            self.lab.run(self.passes, result, feeds if self.gives_data else None, judge if needs_judge else None)
        except OnnxpressError as error:
            return self._failed(error)
        return self.compare(model, result, judge)

    @property
    def _compares(self) -> bool:
        return self.when.is_metric or self.when.kind == "refused"

    def compare(self, model: Model, result: Model, judge: Judge | None) -> Finding:
        """Whether it holds of a model and what the pipeline made of it; `judge` is that of the model."""
        if self.when.kind == "fails":
            return Finding(False, "no pass fails")
        if self.when.kind == "invalid":
            return _invalid(model, result)
        if judge is None or judge.unmeasured:
            return Finding(False, f"nothing can be measured: {judge.unmeasured if judge else 'there is no judge'}")
        return self._measured(judge, result)

    def _measured(self, judge: Judge, result: Model) -> Finding:
        after = judge.run(result)
        if self.when.kind == "refused":
            return Finding(bool(after.refusal), after.refusal or "the executor runs the result")
        if after.refusal:
            return Finding(False, f"{after.refusal} (--when refused asks for that)")
        value = judge.error(judge.original(), after)[self.when.kind]
        beyond = value > self.when.value if self.when.above else value < self.when.value
        return Finding(beyond, f"{self.when.kind} is {value:.3g}")

    def _failed(self, error: OnnxpressError) -> Finding:
        words = str(error)
        if self.when.kind != "fails":
            return Finding(False, f"the pipeline does not come to its end: {words} (--when fails asks for that)")
        if error.exit_code in (1, 2):
            return Finding(False, f"the run is refused, which is no failure of a pass: {words}")
        if self.when.text not in words:
            return Finding(False, f"it fails with other words: {words}")
        if self.failure is not None and not self.failure.same_as(Failure.of(error)):
            return Finding(False, f"it fails in another way: {words}")
        return Finding(True, words)


def _crash(ending: Ending, failure: Failure | None) -> Finding:
    if ending.came_to_end:
        return Finding(False, f"the run comes to its end, with {ending.kind}")
    if failure is not None and failure.kind != ending.kind:
        return Finding(False, f"{ending.kind} ends the process, and not {failure.kind}")
    return Finding(True, f"{ending.kind} ends the process")


def _invalid(model: Model, result: Model) -> Finding:
    fault = fault_of(result)
    if not fault:
        return Finding(False, "onnx's checker accepts the result")
    if before := fault_of(model):
        return Finding(False, f"onnx's checker refuses the input already: {before}")
    return Finding(True, f"onnx's checker refuses the result: {fault}")


def fault_of(model: Model) -> str:
    """What onnx has against a model, in one line; empty if nothing.

    The checker sees weights too, so that it is asked only below 2 GiB; types are inferred strictly at any size, unless
    an initializer is sparse, of which onnx infers another type.
    """
    try:
        if file_size(model) < _CHECKED_BELOW:
            checker.check_model(emit(model, lambda tensor, name: tensor.to_proto(name)))
        if not any(isinstance(value.tensor, SparseTensor) for value in model.graph.initializers):
            shape_inference.infer_shapes(emit(model, strip_weights()), check_type=True, strict_mode=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        return " ".join(str(error).split())
    return ""
