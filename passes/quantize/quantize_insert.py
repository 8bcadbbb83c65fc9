"""The pass `quantize-insert`: options, and the choice of what does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...ir import Graph
from ..calibrate.stream import samples_of
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.units import Size
from .repair.bias import PURPOSE, Original, correct_biases
from .weight_only import quantize_weights


@dataclass(frozen=True)
class QuantizeInsert(Pass):
    """Store weights as int8, one scale per output channel, and per input channel where columns differ widely.

    Weight-only quantization buys size on disk, not speed and not memory: the weights are decoded to floats before they
    are used. With `form=cast` onnxruntime does so once, when it loads the model, and then runs at the speed
    of the original. With `form=dq` it decodes at every call, which is slower, and for a MatMul it quantizes the
    activations to int8 as well unless the session is told not to.

    Weights of MatMul, Gemm, Conv, ConvTranspose, LSTM, GRU, RNN and tables of Gather are found in initializers and
    Constant nodes, in bodies and functions, and behind Transpose, Cast, Reshape and other operators that only move
    elements. Rows of a table are gathered before they are decoded.

    LOSSY: for y = x W, abs(dy_j) <= sum_i abs(dW_ij) max abs(x), where dW is the difference that is really there; it
    is at most half a step, and a step is max abs(W_j) / 127, or its like after columns were scaled.
    """

    name: ClassVar[str] = "quantize-insert"
    effect: ClassVar[Effect] = Effect.LOSSY
    scope: ClassVar[Literal["graph", "model"]] = "model"

    mode: Literal["weight-only"] = option("weight-only", "what is quantized: weights alone")
    form: Literal["cast", "dq"] = option("cast", "what decodes: Cast and Mul, or DequantizeLinear")
    min_bytes: Size = option(1000, "leave weights that are smaller", low=0)
    exclude: tuple[str, ...] = option((), "leave weights if their name or that of a reader matches one of these globs")

    balance: bool = option(True, "scales of input channels too, where columns differ widely (form cast)")
    bias_correction: Literal["auto", "true", "false"] = option(
        "auto", "add the mean error of each output channel to the bias, on sample data; auto: if there are any"
    )

    def run(self, graph: Graph, ctx: Context) -> None:
        """Quantize what the mode says."""
        if self.bias_correction == "true":
            samples_of(ctx, PURPOSE)
        corrects = self.bias_correction != "false" and ctx.samples is not None
        original, version = Original.of(ctx) if corrects else None, ctx.model.version
        self.quantize(ctx)
        if original is not None and ctx.model.version != version:
            correct_biases(ctx, original, by=self.name)

    def quantize(self, ctx: Context) -> None:
        """Quantize, and leave biases as they are."""
        match self.mode:
            case "weight-only":
                quantize_weights(
                    ctx, form=self.form, min_bytes=self.min_bytes, exclude=self.exclude, balance=self.balance
                )
