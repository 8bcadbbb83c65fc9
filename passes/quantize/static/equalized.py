"""Channels are rescaled before ranges are measured, where the outputs err less for it.

One scale for all channels of an activation loses those that reach much less far than others. What `equalize` does,
dividing channels by factors that weights take in, computes the same in float, and is exact, as all factors are powers
of two. Two ways are tried on what would run in integers if time alone counted: factors that constants take in on both
sides, which cost nothing; and, if the outputs still err by more than the limit, a Mul in front of layers whose input
takes none in (SmoothQuant, Xiao et al. 2023), which costs a walk over it. Each is kept if the outputs err less with it.
A Mul of which no reader comes to run in integers is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from ....ir import Node, Value
from ...equalize.insert import Inserted
from ...equalize.rescale import rescale
from ...manager.context import Context
from .cut import Costs
from .units import Unit

Equalize = Literal["auto", "true", "false"]


class Draft(Protocol):
    """What could be done with the model as it is."""

    @property
    def error(self) -> float:
        """What the outputs lose if all that is faster in integers runs in integers."""
        ...


D = TypeVar("D", bound=Draft)


def equalized(
    ctx: Context,
    equalize: Equalize,
    draft: Callable[[Sequence[Inserted]], D],
    limit: float,
    selects: Callable[[Node], bool],
) -> tuple[D, Sequence[Inserted]]:
    """The draft of the model as it is, or of the rescaled model if that errs less, which is then what `ctx` holds; and
    what was inserted. `draft` makes one, `selects` tells nodes whose weights may be scaled."""
    kept: Sequence[Inserted] = ()
    found = draft(kept)
    if equalize == "false":
        return found, kept
    for insert in (False, True):
        if equalize == "auto" and insert and found.error <= limit:
            break
        before = ctx.checkpoint()
        done = rescale(ctx, watches=True, insert=insert, selects=selects)
        if not done.folded and not done.inserted:
            ctx.rollback(before)
            continue
        other = draft(done.inserted)
        by = " by Muls too" if insert else ""
        how = f"rel-L2 {other.error:.2g} with channels rescaled{by}, {found.error:.2g} without"
        if equalize == "true" or other.error < found.error:
            found, kept = other, done.inserted
            ctx.remarks.applied("model", how, rule="equalize")
        else:
            ctx.rollback(before)
            ctx.remarks.missed("model", how, rule="equalize")
    return found, kept


def take_back_unused(ctx: Context, inserted: Sequence[Inserted], units: Sequence[Unit]) -> None:
    """Without the Muls of which no reader runs in integers."""
    integers = {unit.node for unit in units}
    for one in inserted:
        if not one.layers & integers:
            one.take_back(ctx)


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

    def spells(self, unit: Unit) -> bool:
        """Whether a unit in float is faster spelled out."""
        return self.costs.spells(unit)
