"""Sizes as numbers and polynomials over unknown sizes, in a canonical form: equal forms are equal sizes, always.

A size is an int, or a `Poly` with integer coefficients over *atoms*. Each atom stands for a number that is at least 0
in every run: a dimension of some value, or a function of sizes that has no canonical form (`Atoms`). So a polynomial
whose coefficients are none below 0 is at least its constant term; that is all that `bounds` knows.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

Monomial = tuple[int, ...]
"""Atoms in order, each as often as its power; the empty one is the constant term."""
MAX_TERMS = 16


@dataclass(frozen=True)
class Poly:
    """A sum of monomials with coefficients, sorted, none of them 0; never a mere number."""

    terms: tuple[tuple[Monomial, int], ...]

    def __repr__(self) -> str:
        return " + ".join("*".join([str(c), *(f"a{atom}" for atom in m)]) for m, c in self.terms)


Dim = int | Poly


class Unwieldy(Exception):  # noqa: N818  # no fault: the result counts as unknown
    """A polynomial has too many terms to be worth keeping."""


def _terms(size: Dim) -> dict[Monomial, int]:
    if isinstance(size, Poly):
        return dict(size.terms)
    return {(): int(size)} if size else {}


def _made(terms: dict[Monomial, int]) -> Dim:
    kept = {monomial: factor for monomial, factor in terms.items() if factor}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    if len(kept) > MAX_TERMS:
        raise Unwieldy
    return Poly(tuple(sorted(kept.items())))


def plus(a: Dim, b: Dim) -> Dim:
    """a + b."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    terms = _terms(a)
    for monomial, factor in _terms(b).items():
        terms[monomial] = terms.get(monomial, 0) + factor
    return _made(terms)


def times(a: Dim, b: Dim) -> Dim:
    """a * b."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    terms: dict[Monomial, int] = {}
    for m, x in _terms(a).items():
        for n, y in _terms(b).items():
            monomial = tuple(sorted(m + n))
            terms[monomial] = terms.get(monomial, 0) + x * y
    return _made(terms)


def minus(a: Dim, b: Dim) -> Dim:
    """a - b."""
    return plus(a, times(-1, b))


def product(sizes: tuple[Dim, ...] | list[Dim]) -> Dim:
    """The product of all."""
    result: Dim = 1
    for size in sizes:
        result = times(result, size)
    return result


def divided(a: Dim, b: Dim) -> Dim | None:
    """a / b if b divides it term by term; None if it does not, or that cannot be seen. Assumes that b is not 0."""
    if a == b:
        return 1
    if isinstance(b, int):
        divisor: tuple[Monomial, int] = ((), b)
    elif len(b.terms) == 1:
        divisor = b.terms[0]
    else:
        return None
    if divisor[1] == 0:
        return None
    terms: dict[Monomial, int] = {}
    for monomial, factor in _terms(a).items():
        rest = list(monomial)
        for atom in divisor[0]:
            if atom not in rest:
                return None
            rest.remove(atom)
        if factor % divisor[1]:
            return None
        terms[tuple(rest)] = factor // divisor[1]
    return _made(terms)


def bounds(size: Dim) -> tuple[float, float]:
    """A least and a greatest number that it can be."""
    if isinstance(size, int):
        return size, size
    constant = next((factor for monomial, factor in size.terms if not monomial), 0)
    factors = [factor for monomial, factor in size.terms if monomial]
    return (
        constant if min(factors) >= 0 else float("-inf"),
        constant if max(factors) <= 0 else float("inf"),
    )


def is_dimension(size: Dim) -> bool:
    """Whether it is at least 0 for certain."""
    return bounds(size)[0] >= 0


@dataclass
class Atoms:
    """Unknown sizes by what they stand for: the same key is the same number in every run."""

    _known: dict[Hashable, Dim] = field(default_factory=dict)

    def of(self, *key: Hashable) -> Dim:
        """The unknown size of that key."""
        if key not in self._known:
            self._known[key] = Poly((((len(self._known),), 1),))
        return self._known[key]
