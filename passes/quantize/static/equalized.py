"""Channels are rescaled before ranges are measured, where the outputs err less for it.

One scale for all channels of an activation loses those that reach much less far than others. What `equalize` does,
dividing channels by factors that weights take in, computes the same in float, and is exact, as all factors are powers
of two. Two ways are tried on what would run in integers if time alone counted: factors that constants take in on both
sides, which cost nothing; and, if the outputs still err by more than the limit, a Mul in front of layers that read
what stays in float and takes none in (SmoothQuant, Xiao et al. 2023), which costs a walk over it. Each is kept if the
outputs err less with it; Muls only if what then runs in integers within the limit makes the model faster. A Mul of
which no reader comes to run in integers is taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....ir import Model, Node, Value
from ....ir.analysis.coupling.axes import Axis
from ...equalize.expected import Reach
from ...equalize.insert import Inserted
from ...equalize.rescale import Rescaled, rescale
from ...manager.bounds import LocalBound
from ...manager.context import Context
from .cut import Costs
from .units import Unit

Equalize = Literal["auto", "true", "false"]
BY = "quantize-insert"


class Draft(Protocol):
    """What could be done with the model as it is."""

    @property
    def error(self) -> float:
        """What the outputs lose if all that is faster in integers runs in integers."""
        ...

    @property
    def time(self) -> float:
        """What it takes with what is to run in integers."""
        ...

    def wants_factors(self, node: Node) -> bool:
        """Whether a Mul may be put before a node."""
        ...


D = TypeVar("D", bound=Draft)


class Drafter(Protocol[D]):
    """Makes drafts of the model as it is."""

    def draft(self, inserted: Sequence[Inserted], before: D | None = None, touched: Collection[Value] = ()) -> D:
        """With the Muls that were inserted; `before` is that of the model before values were `touched`."""
        ...

    def refined(self, draft: D) -> D:
        """With better ranges."""
        ...

    def decided(self, draft: D) -> D:
        """With what runs in integers within the limit."""
        ...

    def selects(self, node: Node) -> bool:
        """Whether the constants of a node may be scaled."""
        ...


@dataclass
class Factors:
    """By which powers of two values of the model are divided, axis by axis, and by which Muls."""

    names: Mapping[Value, str]
    """What values were called before."""
    powers: dict[Axis, NDArray[np.int64]] = field(default_factory=dict)
    inserted: list[Inserted] = field(default_factory=list)

    @classmethod
    def none(cls, model: Model) -> Factors:
        """None at all."""
        return cls({value: value.name for graph in model.graph.walk_graphs() for value in graph.values()})

    def plus(self, done: Rescaled) -> Factors:
        """With those that were moved since."""
        powers = dict(self.powers)
        for axis, more in done.powers.items():
            powers[axis] = powers.get(axis, np.zeros_like(more)) + more
        return Factors(self.names, powers, [*self.inserted, *done.inserted])

    def take_back_unused(self, ctx: Context, units: Sequence[Unit]) -> None:
        """Without the Muls of which no reader is among `units`."""
        integers = {unit.node for unit in units}
        for one in [one for one in self.inserted if not one.layers & integers]:
            one.take_back(ctx)
            self.inserted.remove(one)
            why = "its Mul is taken back: none of the layers behind it runs in integers"
            ctx.remarks.missed(one.value.name, why, rule="insert")

    def statements(self) -> Iterator[LocalBound]:
        """What values are by names of now, as values by the names that they had."""
        for axis, powers in self.powers.items():
            if axis.value in self.names and powers.any():
                yield _scaled(axis.value, self.names[axis.value], axis.axis, powers)
        for one in self.inserted:
            yield _scaled(one.scaled, one.value.name, one.touches[0].axis.axis, one.powers)


def _scaled(value: Value, name: str, axis: int, powers: NDArray[np.int64]) -> LocalBound:
    label = "" if value.graph is None else value.graph.label
    return LocalBound(BY, label, value.name, "scaled", axis, np.ldexp(1.0, -powers), name)


@dataclass(frozen=True)
class Equalized(Generic[D]):
    """The draft that was kept, and the factors that the model has with it."""

    draft: D
    factors: Factors
    seen: Mapping[Axis, Reach] | None = None
    """How far inputs of weights reach, if that was looked at."""


def equalized(ctx: Context, equalize: Equalize, drafter: Drafter[D], limit: float) -> Equalized[D]:
    """The draft of the model as it is, decided, or of the rescaled model if that is better, which is then what `ctx`
    holds."""
    found = Equalized(drafter.draft(()), Factors.none(ctx.model))
    if equalize != "false":
        found = _folded(ctx, equalize, drafter, found)
    found = replace(found, draft=drafter.decided(drafter.refined(found.draft)))
    if equalize == "true" or (equalize == "auto" and found.draft.error > limit):
        found = _multiplied(ctx, equalize, drafter, found)
    return found


def _folded(ctx: Context, equalize: Equalize, drafter: Drafter[D], found: Equalized[D]) -> Equalized[D]:
    """With factors that constants take in on both sides, if the fastest choice errs less."""
    before = ctx.checkpoint()
    done = rescale(ctx, watches=True, selects=drafter.selects)
    found = replace(found, seen=done.seen)
    if not done.powers:
        ctx.rollback(before)
        return found
    touched = [axis.value for axis in done.powers]
    other = Equalized(drafter.draft((), found.draft, touched), found.factors.plus(done), done.reach)
    how = f"rel-L2 {other.draft.error:.2g} with channels rescaled, {found.draft.error:.2g} without"
    if equalize == "auto" and not other.draft.error < found.draft.error:
        ctx.rollback(before)
        ctx.remarks.missed("model", how, rule="equalize")
        return found
    ctx.remarks.applied("model", how, rule="equalize")
    return other


def _multiplied(ctx: Context, equalize: Equalize, drafter: Drafter[D], found: Equalized[D]) -> Equalized[D]:
    """With Muls, if the fastest choice errs less and what is within the limit is faster."""
    before = ctx.checkpoint()
    wants = found.draft.wants_factors
    done = rescale(ctx, watches=True, fold=False, insert=True, selects=drafter.selects, wants=wants, seen=found.seen)
    if not done.inserted:
        ctx.rollback(before)
        return found
    touched = [one.scaled for one in done.inserted]
    draft = drafter.refined(drafter.draft(done.inserted, found.draft, touched))
    how = f"rel-L2 {draft.error:.2g} with channels rescaled by Muls, {found.draft.error:.2g} without"
    if equalize == "true" or draft.error < found.draft.error:
        draft = drafter.decided(draft)
        how += f"; {draft.time:.4g} us within the limit for {found.draft.time:.4g} us"
        if equalize == "true" or draft.time < found.draft.time:
            ctx.remarks.applied("model", how, rule="equalize")
            return Equalized(draft, found.factors.plus(done))
    ctx.rollback(before)
    ctx.remarks.missed("model", how, rule="equalize")
    return found


@dataclass(frozen=True)
class WithFactors:
    """Times where what a Mul makes costs a walk more to quantize; it is taken back if that is not done."""

    costs: Costs
    scaled: frozenset[Value]

    def unit(self, unit: Unit) -> tuple[float, float]:
        """Of a unit in float and in integers."""
        return self.costs.unit(unit)

    def quantize(self, value: Value) -> float:
        """Of quantizing a value, and of scaling it, which is a walk of the same length."""
        return self.costs.quantize(value) * (2 if value in self.scaled else 1)

    def decode(self, value: Value) -> float:
        """Of decoding a value."""
        return self.costs.decode(value)

    def apart(self, unit: Unit) -> float:
        """Of a unit in integers without the layout of integer convolutions, on top of the rest."""
        return self.costs.apart(unit)

    def spells(self, unit: Unit) -> bool:
        """Whether a unit in float is faster spelled out."""
        return self.costs.spells(unit)
