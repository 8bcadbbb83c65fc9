"""Operators that undo themselves when applied twice, and those whose second application changes nothing."""

from __future__ import annotations

from ....ir import Value
from ...rewriting.pattern import op, var
from ...rewriting.rule import Match, Rule
from .facts import NO, removal

X = var("x")


def _always(match: Match) -> str:
    return ""


def _first(match: Match) -> Value:
    return match.node("first").outputs[0]


def _same_bounds(match: Match) -> str:
    """Limits are attributes before opset 11 and inputs from then on."""
    first, second = match.node("first"), match.root
    inputs = all(first.input(slot) is second.input(slot) for slot in (1, 2))
    attributes = all(first.attr(name) == second.attr(name) for name in ("min", "max"))
    return "" if inputs and attributes else NO


PAIRS: tuple[Rule, ...] = (
    removal("not-not", op.Not(op.Not(X)), _always),
    removal("neg-neg", op.Neg(op.Neg(X)), _always, since=6),
    *(
        removal(f"{name.lower()}-twice", op[(name,)](op[(name,)](X).named("first")), _always, since=6, stand=_first)
        for name in ("Abs", "Ceil", "Floor", "Round", "Relu")
    ),
    removal("clip-twice", op.Clip(op.Clip(X, ...).named("first"), ...), _same_bounds, since=6, stand=_first),
)
