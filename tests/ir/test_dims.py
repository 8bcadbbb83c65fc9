"""Symbolic sizes: arithmetic agrees with that of numbers, equal forms are equal sizes, bounds hold."""

from __future__ import annotations

from math import prod

from hypothesis import given
from hypothesis import strategies as st

from onnxpress.ir.analysis.dims import Atoms, Dim, Poly, bounds, divided, minus, plus, times

ATOMS = Atoms()
UNKNOWN = [ATOMS.of(name) for name in "abc"]
VALUES = st.tuples(*[st.integers(0, 7)] * 3)


def sizes() -> st.SearchStrategy[Dim]:
    leaves = st.one_of(st.integers(-4, 4), st.sampled_from(UNKNOWN))
    operations = st.sampled_from((plus, minus, times))
    return st.recursive(
        leaves, lambda inner: st.builds(lambda f, a, b: f(a, b), operations, inner, inner), max_leaves=4
    )


def value(size: Dim, at: tuple[int, ...]) -> int:
    if isinstance(size, int):
        return size
    return sum(factor * prod(at[atom] for atom in atoms) for atoms, factor in size.terms)


@given(sizes(), sizes(), VALUES)
def test_arithmetic_is_that_of_numbers(a: Dim, b: Dim, at: tuple[int, ...]) -> None:
    assert value(plus(a, b), at) == value(a, at) + value(b, at)
    assert value(minus(a, b), at) == value(a, at) - value(b, at)
    assert value(times(a, b), at) == value(a, at) * value(b, at)


@given(sizes(), sizes())
def test_forms_are_canonical(a: Dim, b: Dim) -> None:
    assert plus(a, b) == plus(b, a)
    assert minus(plus(a, b), b) == a
    assert not isinstance(minus(a, a), Poly)


@given(sizes(), VALUES)
def test_bounds_hold(size: Dim, at: tuple[int, ...]) -> None:
    low, high = bounds(size)
    assert low <= value(size, at) <= high


@given(sizes(), sizes(), VALUES)
def test_quotients_are_exact(a: Dim, b: Dim, at: tuple[int, ...]) -> None:
    quotient = divided(times(a, b), b)
    if quotient is not None and value(b, at):
        assert value(quotient, at) == value(a, at)


def test_what_is_learned_of_an_unknown_holds_everywhere() -> None:
    atoms = Atoms()
    a, b, c = (atoms.of(name) for name in "abc")
    assert atoms.learn(b, a)
    assert atoms.learn(c, plus(b, 1))
    assert atoms.of("b") == a
    assert atoms.learn(a, 3)
    assert (atoms.of("a"), atoms.of("b")) == (3, 3)
    assert not Atoms().learn(2, 3)
