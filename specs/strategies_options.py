"""A strategy for passes of one class, with options drawn from what their fields say of themselves."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from ..errors import OnnxpressError
from ..passes.manager.base import Pass
from ..passes.manager.kinds import BoolKind, ChoiceKind, FloatKind, Kind, ListKind, NumberKind, OptionalKind, WordOrKind
from ..passes.manager.options import OptionSpec, options_of
from .strategies_scope import Draw

FEW = 8
"""The largest integer drawn where neither the option nor its default says how large it may be."""


@st.composite
def passes(draw: Draw, pass_class: type[Pass]) -> Pass:
    """Passes of a class, each option its default or another value of its kind.

    Booleans and choices are drawn from all values, numbers from their range (without an upper end, up to twice the
    default), optional ones are none too. Text and lists of it name things of a model and stay as they are by default,
    as does what has neither range nor default. What the class itself refuses is not drawn. A combinator needs passes
    inside, which its annotations do not give: write a strategy.
    """
    options = {option.field: draw(_values(option)) for option in options_of(pass_class)}
    try:
        return pass_class(**options)
    except (OnnxpressError, ValueError):
        assume(False)
        raise


def _values(option: OptionSpec) -> st.SearchStrategy[Any]:
    others = _of_kind(option.kind, option.default)
    return st.just(option.default) if others is None else st.one_of(st.just(option.default), others)


def _of_kind(kind: Kind, default: Any) -> st.SearchStrategy[Any] | None:
    """Values of a kind; None if nothing says which make sense."""
    if isinstance(kind, BoolKind):
        return st.booleans()
    if isinstance(kind, ChoiceKind):
        return st.sampled_from(list(kind.values.values()))
    if isinstance(kind, OptionalKind):
        inner = _of_kind(kind.inner, default)
        return st.none() if inner is None else st.one_of(st.none(), inner)
    if isinstance(kind, WordOrKind):
        words, numbers = (_of_kind(each, None) for each in (kind.words, kind.inner))
        return words if numbers is None or words is None else st.one_of(words, numbers)
    if isinstance(kind, ListKind):
        inner = _of_kind(kind.inner, None) if isinstance(kind.inner, ChoiceKind) else None
        return None if inner is None else st.lists(inner, unique=True, max_size=3).map(tuple)
    return _numbers(kind, default) if isinstance(kind, NumberKind) else None


def _numbers(kind: NumberKind, default: Any) -> st.SearchStrategy[Any] | None:
    known = [end for end in (kind.low, kind.high, default) if end is not None and end == end]
    if not known:
        return None
    low = min(known) if kind.low is None else kind.low
    high = max(2 * abs(default or 0), low + FEW) if kind.high is None else kind.high
    if not isinstance(kind, FloatKind):
        return st.integers(int(low), int(high))
    return st.floats(float(low), float(high))
