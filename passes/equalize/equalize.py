"""The pass `equalize`: options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...errors import UserError
from ...ir import Graph
from ..calibrate.stream import samples_of
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from .rescale import PURPOSE, rescale


@dataclass(frozen=True)
class Equalize(Pass):
    """Rescale channels between what makes them and what reads them, so that they reach equally far.

    Quantization with one scale for all channels of a value, or all inputs of a layer, loses channels that are much
    smaller than others. A factor for each channel can be moved from the layer that makes it into those that read it,
    through whatever a positive factor passes through. All factors are powers of two: constants are scaled without
    rounding, and so are activations, up to underflow and overflow.
    """

    name: ClassVar[str] = "equalize"
    effect: ClassVar[Effect] = Effect.ROUNDING

    criterion: Literal["auto", "weights", "activations"] = option(
        "auto", "ranges of what: weights alone, or activations on sample data against weights; auto: what there is"
    )
    alpha: float | None = option(
        None, "how much goes into the weights that read; with data chosen by the error expected of 8 bits, else 0.5",
        low=0, high=1,
    )  # fmt: skip

    insert: bool = option(False, "put a Mul before layers whose input takes no factor in; for activations")

    def __post_init__(self) -> None:
        """UserError for options that contradict each other."""
        if self.insert and self.criterion == "weights":
            raise UserError("equalize: insert=true looks at activations: criterion=weights cannot be given")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Choose and move the factors, until nothing is left to move."""
        watches = self.insert or self.criterion == "activations"
        if watches:
            samples_of(ctx, PURPOSE)
        watches |= self.criterion == "auto" and ctx.samples is not None
        rescale(ctx, watches=watches, alpha=self.alpha, insert=self.insert)
