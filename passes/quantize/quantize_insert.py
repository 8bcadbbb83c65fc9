"""The pass `quantize-insert`: options, and the choice of what does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...errors import UserError
from ...ir import Graph
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.units import Size
from .nbits import NBits
from .recipe import Granularity, Levels, Recipe, WeightType
from .weight_only import quantize_weights


@dataclass(frozen=True)
class QuantizeInsert(Pass):
    """Store weights in fewer bits: integers, 8-bit floats or looked-up levels, with scales per channel or block.

    Weight-only quantization buys size on disk, not speed and not memory: the weights are decoded to floats before they
    are used. With `form=cast` onnxruntime does so once, when it loads the model, and then runs at the speed
    of the original. With `form=dq` it decodes at every call, which is slower, and for a MatMul it quantizes the
    activations to int8 as well unless the session is told not to. With `format=nbits` matrices stay in their codes in
    memory too.

    Weights of MatMul, Gemm, Conv, ConvTranspose, LSTM, GRU, RNN and tables of Gather are found in initializers and
    Constant nodes, in bodies and functions, and behind Transpose, Cast, Reshape and other operators that only move
    elements. Rows of a table are gathered before they are decoded.

    LOSSY: for y = x W, abs(dy_j) <= sum_i abs(dW_ij) max abs(x), where dW is the difference that is really there; for
    integers it is at most half a step, which is max abs(W_j) / 127 for int8, or its like after columns were scaled.
    """

    name: ClassVar[str] = "quantize-insert"
    effect: ClassVar[Effect] = Effect.LOSSY
    scope: ClassVar[Literal["graph", "model"]] = "model"

    mode: Literal["weight-only"] = option("weight-only", "what is quantized: weights alone")
    type: WeightType = option("int8", "what weights are stored in")
    granularity: Granularity = option(
        "auto",
        "what shares a scale: all, a channel of outputs, a block of inputs; auto: blocks below 8 bits, else channels",
    )
    block: int = option(32, "how many inputs are a block", low=2)
    symmetric: bool = option(True, "no zero points; if false, ranges need not lie around 0")
    levels: Levels = option(
        "linear",
        "where levels lie: at equal distances (pow2: with powers of two as scales), at powers of two, by k-means, nf4",
    )
    form: Literal["cast", "dq"] = option("cast", "what decodes: Cast and Mul, or DequantizeLinear")
    format: Literal["qdq", "nbits"] = option(
        "qdq", "nbits: MatMulNBits of onnxruntime multiplies by codes, where it can"
    )
    accuracy_level: int = option(
        0, "format=nbits: 4 rounds what is multiplied to 8 bits as well", choices=(0, 1, 2, 3, 4)
    )
    min_bytes: Size = option(1000, "leave weights that are smaller", low=0)
    exclude: tuple[str, ...] = option((), "leave weights if their name or that of a reader matches one of these globs")

    balance: bool = option(True, "scales of input channels too, where columns differ widely (form cast)")

    def __post_init__(self) -> None:
        """UserError for options that contradict each other."""
        self._recipe.check()
        if self._recipe.is_book and self.form == "dq":
            raise UserError(f"levels={self.levels} are looked up in a table, for which form=dq has no place")
        if self.accuracy_level and self.format != "nbits":
            raise UserError("accuracy-level is for format=nbits")
        self._nbits()

    @property
    def _recipe(self) -> Recipe:
        return Recipe(self.type, self.granularity, self.block, self.symmetric, self.levels)

    def _nbits(self) -> NBits | None:
        return NBits.of(self._recipe, self.accuracy_level) if self.format == "nbits" else None

    def run(self, graph: Graph, ctx: Context) -> None:
        """Quantize what the mode says."""
        match self.mode:
            case "weight-only":
                quantize_weights(
                    ctx, form=self.form, recipe=self._recipe, min_bytes=self.min_bytes, exclude=self.exclude,
                    balance=self.balance, nbits=self._nbits(),
                )  # fmt: skip
