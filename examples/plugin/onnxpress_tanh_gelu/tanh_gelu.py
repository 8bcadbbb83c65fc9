"""GELU by tanh instead of erf.

x/2 (1 + erf(x/sqrt(2))) becomes x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel, Gaussian Error
Linear Units, 2016). In exact arithmetic the two differ by less than `BOUND` for every x; the tests show it.

Floating point adds what the operators round, and what the executor's kernels of Erf and Tanh are off: assumed is at
most `KERNELS` units of roundoff of 1, absolutely (both functions are at most 1), which the tests measure for each
executor. In float32 that is 4.8e-7 |x|, a thousandth of the bound for |x| = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

import onnxpress as op
from onnxpress.passes.manager.bounds import LocalBound
from onnxpress.passes.rewriting.driver import apply_rules
from onnxpress.passes.rewriting.pattern import any_of, scalar, var
from onnxpress.passes.rewriting.pattern import op as call
from onnxpress.passes.rewriting.rule import Builder, Match, Rule

BOUND = 4.76e-4
"""More than the greatest difference between the two forms: 4.732e-4, near |x| = 2.7."""
KERNELS = 8
"""Units of roundoff of 1 (2^-24 in float32) that Erf and Tanh are off at most: an assumption about executors."""

_NEAR = 2e-3
"""How far constants may be from their exact values: half precision writes 1.4142 as 1.4141."""
_X = var("x")
_ERF = call.Erf(
    any_of(
        call.Div(_X, scalar(math.sqrt(2), _NEAR)),
        call.Mul(_X, scalar(math.sqrt(0.5), _NEAR)),
    )
)
_SUM = call.Add(_ERF, scalar(1.0, name="one"))
_HALF = scalar(0.5)
_FORMS = (
    call.Mul(call.Mul(_X, _SUM), _HALF),
    call.Mul(call.Mul(_X, _HALF), _SUM),
    call.Mul(call.Mul(_SUM, _HALF), _X),
)
"""The orders in which the three factors are multiplied."""
_GELU_SINCE = 20


@dataclass(frozen=True)
class TanhGelu(op.Pass):
    """Replace Erf-based GELU by its tanh form, for runtimes without Erf."""

    name: ClassVar[str] = "tanh-gelu"
    effect: ClassVar[op.Effect] = op.Effect.LOSSY

    form: Literal["nodes", "op"] = op.option("nodes", "nodes of any opset, or the operator Gelu of opset 20")

    def run(self, graph: op.Graph, ctx: op.Context) -> None:
        """Rewrite every GELU of the model, and state the bound for each."""

        def build(match: Match, b: Builder) -> op.Value:
            y = _as_op(match, b) if self.form == "op" else _as_nodes(match, b)
            old = match.root.outputs[0]
            ctx.bounds.append(
                LocalBound(self.name, match.graph.label, old.name, "absolute", 0, np.array([BOUND], np.float64))
            )
            return y

        def guard(match: Match) -> str:
            if self.form == "op" and match.opset < _GELU_SINCE:
                return f"the operator Gelu needs opset {_GELU_SINCE}, the model has {match.opset}"
            return ""

        rules = [Rule(f"order-{number}", form, build, guard) for number, form in enumerate(_FORMS, 1)]
        if not apply_rules(ctx, rules):
            ctx.remarks.missed("model", "there is no Erf-based GELU")


def _as_op(match: Match, b: Builder) -> op.Value:
    return b("Gelu", match["x"], attributes={"approximate": "tanh"})


def _as_nodes(match: Match, b: Builder) -> op.Value:
    one = match["one"]
    assert one.const is not None
    dtype = one.const.numpy().dtype

    def number(value: float) -> op.Value:
        return b.constant(np.array(value, dtype), "gelu")

    x = match["x"]
    cube = b("Mul", b("Mul", x, x), x)
    inner = b("Add", x, b("Mul", cube, number(0.044715)))
    tanh = b("Tanh", b("Mul", inner, number(math.sqrt(2 / math.pi))))
    return b("Mul", b("Mul", x, number(0.5)), b("Add", tanh, one))
