"""Swish and Mish: x sigmoid(a x), and x tanh(softplus(x)); Softplus: log(exp(x) + 1).

Ramachandran, Zoph and Le, Searching for Activation Functions, 2017; Misra, Mish, 2019. The attribute alpha is a
float32: a factor that is none is declined. A factor of exactly 1 is dropped from the sigmoid at any opset.

Operation counts: Swish k = 2 before (a x, the product), 3 after as onnx defines it; Mish 1 on either side; Softplus 1
before, and the operator's own error after; each and the kernels' own error.
"""

from __future__ import annotations

from ....ir import Value
from ...rewriting.pattern import const, op, scalar, var
from ...rewriting.rule import Builder, Match, Rule
from .extents import changes_rank
from .numbers import float32, number_of

SWISH_SINCE, MISH_SINCE, SOFTPLUS_SINCE = 24, 18, 1

_X = var("x")


def _is_narrow(match: Match) -> str:
    alpha = number_of(match["alpha"])
    if alpha is None:
        return "- no single factor"
    if alpha != float32(alpha):
        return f"the factor {alpha!r} is no float32"
    return changes_rank(match, match["x"])


def _swish(match: Match, b: Builder) -> Value:
    alpha = match.get("alpha")
    return b("Swish", match["x"], attributes=None if alpha is None else {"alpha": number_of(alpha)})


def _mish(match: Match, b: Builder) -> Value:
    return b("Mish", match["x"])


def _softplus(match: Match, b: Builder) -> Value:
    return b("Softplus", match["x"])


SWISH = (
    Rule("swish-alpha", op.Mul(_X, op.Sigmoid(op.Mul(_X, const("alpha")))), _swish, _is_narrow),
    Rule("swish", op.Mul(_X, op.Sigmoid(_X)), _swish),
)
MISH = (Rule("mish", op.Mul(_X, op.Tanh(op.Softplus(_X))), _mish),)
SOFTPLUS = (Rule("softplus", op.Log(op.Add(op.Exp(_X), scalar(1.0))), _softplus, lambda m: changes_rank(m, m["x"])),)
