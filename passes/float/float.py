"""The pass `float`: options, and the choice of what does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...ir import Graph
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.units import Size
from ..manager.weights import constants
from .choose import Choice
from .compute import compute
from .formats import FORMATS
from .plan import WIDE
from .store import store


@dataclass(frozen=True)
class Float(Pass):
    """Store floating-point constants in 16 bits, half the bytes, and compute in float32 as before or in 16 bits, too.

    Every constant of float32 or float64 becomes one of 16 bits and a Cast to what it was, which onnxruntime folds once,
    when it loads the model. What would overflow, lose most of its bits, or be no longer the number that somebody chose,
    stays as it is.

    With `compute` the nodes themselves take and give 16 bits, for devices that compute in them, with Casts where the
    types meet; the interface stays. What has no such type, or was seen out of range on the sample data, masks,
    epsilons and counts stay in float32.

    LOSSY: for y = x W, abs(dy_j) <= sum_i abs(dW_ij) max abs(x), where dW is the difference that is really there: at
    most 2^-11 abs(W) + 2^-25 in float16, 2^-9 abs(W) in bfloat16. What computes in 16 bits rounds as they do, by
    gamma(k) of u = 2^-11 or 2^-9, as long as nothing overflows.
    """

    name: ClassVar[str] = "float"
    effect: ClassVar[Effect] = Effect.LOSSY
    uses_blas: ClassVar[bool] = False
    scope: ClassVar[Literal["graph", "model"]] = "model"

    to: Literal["float16", "bfloat16"] = option("float16", "the format of 16 bits")
    compute: bool = option(False, "let the nodes compute in 16 bits, where --data shows that values fit")
    min_bytes: Size = option(64, "leave constants that are smaller: numbers of formulas, as a rule", low=0)
    exclude: tuple[str, ...] = option((), "leave constants if their name or a reader's matches one of these globs")

    @property
    def must_change(self) -> bool:
        """What is to be stored in fewer bits is."""
        return True

    def run(self, graph: Graph, ctx: Context) -> None:
        """Compute in 16 bits if it is asked for, and store what is still wide."""
        format = FORMATS[self.to]
        choice = compute(ctx, format, self.exclude) if self.compute else Choice()
        if not store(ctx, format, self.min_bytes, self.exclude, choice.excluding) and not choice.halves:
            is_wide = any(tensor.dtype in WIDE for _, _, tensor in constants(ctx.model))
            why = "" if is_wide else ": none is of float32 or float64"
            ctx.remarks.missed("model", f"no constant was stored in {self.to}{why}")
