"""Gelu: x/2 (1 + erf(x / sqrt 2)), and its tanh form x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

Hendrycks and Gimpel, Gaussian Error Linear Units, 2016. The three factors may be multiplied in any order. sqrt 2 (or
the square root of a half) and sqrt(2/pi) must be those numbers rounded to the type of the constant, so equality in
exact arithmetic is up to that rounding.

Operation counts: the quotient, erf, the sum and two products on either side, k = 4 and the kernel's own error.
"""

from __future__ import annotations

import math

from ....ir import Value
from ...rewriting.pattern import Call, Pattern, any_of, op, scalar, var
from ...rewriting.rule import Builder, Match, Rule
from .extents import changes_rank
from .numbers import Rounded

SINCE = 20

_X = var("x")
_ERF = op.Erf(any_of(op.Div(_X, Rounded(math.sqrt(2))), op.Mul(_X, Rounded(math.sqrt(0.5)))))
_CUBE = any_of(op.Pow(_X, scalar(3.0)), op.Mul(_X, op.Mul(_X, _X)), op.Mul(_X, op.Pow(_X, scalar(2.0))))
_C = Rounded(0.044715)
_INNER = any_of(
    op.Add(_X, op.Mul(_C, _CUBE)),
    op.Mul(_X, op.Add(op.Mul(_C, any_of(op.Mul(_X, _X), op.Pow(_X, scalar(2.0)))), scalar(1.0))),
)
_TANH = op.Tanh(op.Mul(_INNER, Rounded(math.sqrt(2 / math.pi))))


def _products(inner: Pattern) -> tuple[Call, ...]:
    """x/2 (1 + inner) in all orders."""
    one, half = op.Add(inner, scalar(1.0)), scalar(0.5)
    halved = any_of(op.Mul(_X, half), op.Div(_X, scalar(2.0)))
    return (
        op.Mul(op.Mul(_X, one), half),
        op.Mul(halved, one),
        op.Mul(_X, any_of(op.Mul(one, half), op.Div(one, scalar(2.0)))),
        op.Div(op.Mul(_X, one), scalar(2.0)),
    )


def _guard(match: Match) -> str:
    return changes_rank(match, match["x"])


def _erf_form(match: Match, b: Builder) -> Value:
    return b("Gelu", match["x"])


def _tanh_form(match: Match, b: Builder) -> Value:
    return b("Gelu", match["x"], attributes={"approximate": "tanh"})


GELU = (
    *(Rule(f"gelu-erf-{n}", form, _erf_form, _guard) for n, form in enumerate(_products(_ERF), 1)),
    *(Rule(f"gelu-tanh-{n}", form, _tanh_form, _guard) for n, form in enumerate(_products(_TANH), 1)),
)
