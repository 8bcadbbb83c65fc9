"""Sizes as numbers and polynomials over unknown sizes, in a canonical form: equal forms are equal sizes, always.

A size is an int, or a `Poly` with integer coefficients over *atoms*. Each atom stands for a number that is at least 0
in every run: a dimension of some value, or a function of sizes that has no canonical form (`Atoms`). So a polynomial
whose coefficients are none below 0 is at least its constant term; that is all that `bounds` knows.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import gcd, prod

Monomial = tuple[int, ...]
"""Atoms in order, each as often as its power; the empty one is the constant term."""
MAX_TERMS = 16


class Poly:
    """A sum of monomials with coefficients, sorted, none of them 0; never a mere number."""

    __slots__ = ("terms",)

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.terms)

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
    if isinstance(b, int):
        if isinstance(a, int):
            return a + b
        if b == 0:
            return a
    terms = _terms(a)
    for monomial, factor in _terms(b).items():
        terms[monomial] = terms.get(monomial, 0) + factor
    return _made(terms)


def times(a: Dim, b: Dim) -> Dim:
    """a * b."""
    if isinstance(a, int):
        if isinstance(b, int):
            return a * b
        if a == 1:
            return b
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


def common_factor_removed(a: Dim, b: Dim, nonzero: Dim) -> tuple[Dim, Dim]:
    """Two products without the factors that they share, as far as `nonzero`, a product that is not 0, has them too."""
    sides = [_terms(a), _terms(b), _terms(nonzero)]
    if any(len(side) != 1 for side in sides):
        return a, b
    (left, x), (right, y), (free, _) = (next(iter(side.items())) for side in sides)
    spare = list(free)
    for atom in free:
        if atom in left and atom in right and atom in spare:
            left, right = _without(left, atom), _without(right, atom)
            spare.remove(atom)
    shared = gcd(x, y)
    return _made({left: x // shared}), _made({right: y // shared})


def _without(monomial: Monomial, atom: int) -> Monomial:
    place = monomial.index(atom)
    return monomial[:place] + monomial[place + 1 :]


class Atoms:
    """Unknown sizes by what they stand for: the same key is the same number in every run that does not fail."""

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, ...], Dim] = {}
        self._keys: list[tuple[Hashable, ...]] = []
        self._mentioned: list[set[tuple[Hashable, ...]]] = []
        """For each atom the keys whose sizes it stands in."""

    def of(self, *key: Hashable) -> Dim:
        """The unknown size of that key, or what was learned of it."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Poly((((len(self._keys),), 1),))
            self._keys.append(key)
            self._mentioned.append({key})
        return known

    def keys(self) -> dict[int, tuple[Hashable, ...]]:
        """What each atom stands for."""
        return dict(enumerate(self._keys))

    @staticmethod
    def value(size: Dim, known: Mapping[int, int]) -> int | None:
        """The number that a size is if atoms have these numbers; None if one of them is not given."""
        if isinstance(size, int):
            return size
        if not _atoms(size) <= known.keys():
            return None
        return sum(factor * prod(known[atom] for atom in atoms) for atoms, factor in size.terms)

    def learn(self, a: Dim, b: Dim) -> bool:
        """Note that two sizes are equal, if that tells what an unknown is; whether it does."""
        for one, other in sorted(((a, b), (b, a)), key=lambda pair: _newest(pair[0]), reverse=True):
            atom = _only_atom(one)
            if atom is not None and atom not in _atoms(other) and is_dimension(other):
                for key in self._mentioned[atom]:
                    self._known[key] = _substituted(self._known[key], atom, other)
                for stands_now in _atoms(other):
                    self._mentioned[stands_now] |= self._mentioned[atom]
                self._mentioned[atom] = set()
                return True
        return False


def _only_atom(size: Dim) -> int | None:
    if isinstance(size, Poly) and len(size.terms) == 1:
        (atoms, factor), *_ = size.terms
        return atoms[0] if factor == 1 and len(atoms) == 1 else None
    return None


def _newest(size: Dim) -> int:
    atom = _only_atom(size)
    return -1 if atom is None else atom


def _atoms(size: Dim) -> set[int]:
    return {atom for atoms, _ in size.terms for atom in atoms} if isinstance(size, Poly) else set()


def _substituted(size: Dim, atom: int, by: Dim) -> Dim:
    result: Dim = 0
    for atoms, factor in _terms(size).items():
        part: Dim = factor
        for one in atoms:
            part = times(part, by if one == atom else Poly((((one,), 1),)))
        result = plus(result, part)
    return result
