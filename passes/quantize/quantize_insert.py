"""The pass `quantize-insert`: options, and the choice of what does the work."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

from ...errors import UserError
from ...ir import Graph
from ..calibrate.statistics import PERCENTILE
from ..calibrate.stream import samples_of
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.units import Size
from .budget.limit import Limit
from .budget.options import Precision
from .dynamic.quantize_dynamic import decide_dynamic
from .nbits import NBits
from .recipe import BOOK_BITS, Granularity, Levels, Recipe, WeightType
from .repair.bias import PURPOSE, Original, correct_biases
from .rounding.options import Clip, Rounder, Rounding, Sequential
from .static.equalized import Equalize
from .static.quantize_static import Decided, decide_static
from .static.ranges import Calibration
from .static.settings import Settings
from .targets.profile import names, profile
from .weight_only import quantize_weights

MODES_OF = {
    ("static", "dynamic"): ("target", "latency"),
    ("static",): ("activations", "calibration", "percentile", "cache", "equalize"),
}
"""Which modes look at an option that not all look at."""
Activations = Literal["auto", "uint8", "int8", "uint16", "int16"]

ERROR = 0.05
"""What outputs may lose where activations are quantized and nothing else is said."""


@dataclass(frozen=True)
class QuantizeInsert(Pass):
    """Store weights in fewer bits: integers, 8-bit floats or looked-up levels, with scales per channel or block.

    Weight-only quantization buys size on disk, not speed and not memory: the weights are decoded to floats before they
    are used. With `form=cast` onnxruntime does so once, when it loads the model, and then runs at the speed
    of the original. With `form=dq` it decodes at every call, which is slower, and for a MatMul it rounds what is
    multiplied to int8 as well unless the session is told not to. With `format=nbits` matrices stay in their codes in
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

    mode: Literal["weight-only", "static", "dynamic"] = option(
        "weight-only", "weights alone; activations too, in ranges from sample data; or in the ranges of each run"
    )
    target: str = option("ort-cpu", "mode=static: the runtime that it is for", choices=names())
    latency: Literal["measure", "profile", "off"] = option(
        "profile", "mode=static: where times come from: this host, the target's profile, or nowhere"
    )
    error: float | None = option(
        None, "rel-L2 of the outputs on --data that may be lost; none: 0.05 with activations, any for weights", low=0
    )
    activations: Activations = option("auto", "mode=static: the type of activations; auto: that of the target")
    calibration: Calibration = option(
        "auto", "mode=static: how the range of an activation is found; auto: minmax, or what errs least value by value"
    )
    percentile: float = option(PERCENTILE, "calibration=percentile: share of numbers in the range", low=50, high=100)
    cache: str = option("", "mode=static: a file that keeps the statistics of activations, and is used again")
    equalize: Equalize = option("auto", "mode=static: rescale channels first; auto: where the outputs err less for it")
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
    format: Literal["qdq", "qoperator", "nbits"] = option(
        "qdq", "qoperator: integer operators, not Q and DQ around others (mode=static); nbits: MatMulNBits where it can"
    )
    accuracy_level: int = option(
        0, "format=nbits: 4 rounds what is multiplied to 8 bits as well", choices=(0, 1, 2, 3, 4)
    )
    min_bytes: Size = option(1000, "leave weights that are smaller", low=0)
    exclude: tuple[str, ...] = option((), "leave weights if their name or that of a reader matches one of these globs")

    balance: bool = option(True, "scales of input channels too, where columns differ widely (form cast)")
    rounding: Rounding = option(
        "auto", "by the outputs of layers on --data: the method that errs least, or one; without data nearest"
    )
    clip: Clip = option("auto", "whether ranges may be clipped where outputs err less for it (needs --data)")
    sequential: Sequential = option(
        "auto", "layers one after the other, each for what those before it make of --data; auto: below 8 bits"
    )
    moments: Size = option(1 << 30, "bytes of second moments of inputs that rounding may hold at a time", low=1)

    budget: str = option(
        "", "mode=weight-only: bytes of float constants after it (2MB), or their share (0.15); types are chosen by it"
    )
    bias_correction: Literal["auto", "true", "false"] = option(
        "auto", "add the mean error of each output channel to the bias, on sample data; auto: if there are any"
    )

    def __post_init__(self) -> None:
        """UserError for options that contradict each other."""
        self._check_mode()
        self._check_target()
        self._recipe.check()
        if self._recipe.is_book and self.form == "dq":
            raise UserError(f"levels={self.levels} are looked up in a table, for which form=dq has no place")
        if self.accuracy_level and self.format != "nbits":
            raise UserError("accuracy-level is for format=nbits")
        if self.sequential == "true" and self.rounding == "nearest":
            raise UserError("quantize-insert: sequential=true is for rounding=auto, gptq or adaround, not for nearest")
        self._nbits()
        self._check_budget()

    def _check_budget(self) -> None:
        """`budget` chooses types, so none is given with it; nor levels that not all types have."""
        if not self.budget:
            return
        Limit.of(self.budget)
        if self.type != "int8" or self.levels in BOOK_BITS:
            what = f"type={self.type}" if self.type != "int8" else f"levels={self.levels}"
            raise UserError(f"quantize-insert: budget chooses the type of each weight: leave out {what}")
        if self.mode != "weight-only" or self.error is not None:
            what = "error" if self.error is not None else f"mode={self.mode}"
            raise UserError(f"quantize-insert: budget is for mode=weight-only, and goes without {what}")

    def _check_mode(self) -> None:
        """No option is given that the mode does not look at."""
        defaults = {field.name: field.default for field in fields(self)}
        for modes, options in MODES_OF.items():
            given = next((name for name in options if getattr(self, name) != defaults[name]), None)
            if given is not None and self.mode not in modes:
                raise UserError(f"quantize-insert: {given} is for mode={' or '.join(modes)}, not for {self.mode}")
        if self.mode == "dynamic" and self.latency == "measure":
            raise UserError("quantize-insert: latency=measure is for mode=static; dynamic has profile and off")
        if self.percentile != defaults["percentile"] and self.calibration != "percentile":
            raise UserError(f"quantize-insert: percentile is for calibration=percentile, not for {self.calibration}")

    def _check_target(self) -> None:
        """The target has the format and the type of activations."""
        aim = profile(self.target)
        if self.format == "qoperator" and self.mode != "static":
            hint = "; mode=dynamic is written in integer operators anyway" if self.mode == "dynamic" else ""
            raise UserError(f"quantize-insert: format=qoperator is for mode=static, not for {self.mode}{hint}")
        if self.format == "qoperator" and not aim.qoperators:
            raise UserError(f"quantize-insert: {aim.title} does not take format=qoperator: say qdq")
        if self.activations != "auto" and self.activations not in aim.takes:
            takes = " or ".join(aim.takes)
            raise UserError(f"quantize-insert: {aim.title} takes activations={takes}, not {self.activations}")
        wanted = aim.activation_type if self.activations == "auto" else self.activations
        if self.format == "qoperator" and wanted not in aim.operator_types:
            takes = " or ".join(aim.operator_types)
            raise UserError(
                f"quantize-insert: format=qoperator for {aim.title} takes activations={takes}, not {wanted}"
            )

    def _precision(self, ctx: Context, decided: Decided | None) -> Precision:
        """Without data or an executor nothing is said of outputs, unless that was asked for. What was decided to run in
        integers counts."""
        budget = Limit.of(self.budget) if self.budget else None
        has_outputs = self.mode != "weight-only" and ctx.samples is not None and ctx.backend is not None
        error = self._error if has_outputs else self.error
        found = Precision(self._recipe, budget, error, self.moments, self.rounding != "nearest")
        return found if decided is None else replace(found, then=decided.emit)

    @property
    def _error(self) -> float:
        return ERROR if self.error is None else self.error

    @property
    def _recipe(self) -> Recipe:
        return Recipe(self.type, self.granularity, self.block, self.symmetric, self.levels)

    def _nbits(self) -> NBits | None:
        return NBits.of(self._recipe, self.accuracy_level) if self.format == "nbits" else None

    @property
    def must_change(self) -> bool:
        """What is to be stored in fewer bits is."""
        return True

    def run(self, graph: Graph, ctx: Context) -> None:
        """Quantize what the mode says; weights that are not multiplied in integers are stored in fewer bits."""
        if self.error is not None and self.mode == "weight-only":
            samples_of(ctx, "error")
        if self.bias_correction == "true":
            samples_of(ctx, PURPOSE)
        corrects = self.bias_correction != "false" and ctx.samples is not None
        settings = Settings(
            self.target, self.latency, self._error, self.exclude, self.calibration, self.percentile, self.cache,
            self.equalize, "qoperator" if self.format == "qoperator" else "qdq", self.activations,
        )  # fmt: skip
        rounder = Rounder(self.rounding, self.clip, self.moments, self.sequential, corrects)
        decided: Decided | None = None
        match self.mode:
            case "static":
                decided = decide_static(ctx, settings, rounder)
            case "dynamic":
                decided = decide_dynamic(ctx, settings)
        original, version = Original.of(ctx) if corrects else None, ctx.model.version
        taken = frozenset() if decided is None else decided.weights
        settled = quantize_weights(
            ctx, form=self.form, recipe=self._recipe, min_bytes=self.min_bytes, exclude=self.exclude,
            balance=self.balance, nbits=self._nbits(), taken=taken,
            rounder=rounder, precision=self._precision(ctx, decided),
        )  # fmt: skip
        if original is not None and ctx.model.version != version:
            correct_biases(ctx, original, by=self.name, but=settled)
        if decided is not None:
            decided.carry_out(ctx, rounder)
