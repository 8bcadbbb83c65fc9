"""Static quantization of a model: ranges on sample data, the units that pay, and Q and DQ around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from typing import Protocol

from ....errors import UserError
from ....ir import Model, Node, Value
from ....ir.analysis.purity import Purity
from ...calibrate.calibrate import calibrate
from ...calibrate.ranges import Array, Range
from ...calibrate.statistics import PERCENTILE, Method
from ...calibrate.stream import observe
from ...graph.opset import raise_opset
from ...manager.context import Context
from ..sites import scales_levels
from ..targets.profile import Profile, profile
from .affine import TYPES, Affine, affine
from .alone import Alone, Shape
from .choose import choose
from .cut import Costs, Free
from .emit import SIXTEEN_BITS, Emitter, needed
from .estimated import EstimatedCosts
from .ledger import Ledger, codings
from .measured import MeasuredCosts
from .qoperator import why_not
from .trial import Trials
from .units import Unit, Units, values_of
from .upright import turn_weights

SAMPLES = 16
"""Samples on which errors of choices are measured."""
PER_CHANNEL = 13
"""The opset from which on scales may run along an axis."""


@dataclass(frozen=True)
class Settings:
    """The options of mode=static."""

    target: str
    latency: str
    error: float
    exclude: tuple[str, ...] = ()
    calibration: Method = "minmax"
    percentile: float = PERCENTILE
    cache: str = ""
    format: str = "qdq"
    activations: str = "auto"

    @property
    def aim(self) -> Profile:
        """The profile of the target, with the type of activations that was asked for."""
        found = profile(self.target)
        return found if self.activations == "auto" else replace(found, activation_type=self.activations)


class Writes(Protocol):
    """Lets units run in integers, and says what that promises."""

    def follow(self, old: Value, new: Value) -> None:
        """Take note that the units read `new` now, which stands for `old`."""
        ...

    def promise(self, units: Sequence[Unit]) -> None:
        """State the local bounds of what `emit` will do."""
        ...

    def emit(self, units: Sequence[Unit]) -> None:
        """Change the model."""
        ...


@dataclass(frozen=True)
class Decided:
    """What is to run in integers. Weights that it takes are left to it by what quantizes the others, which comes first:
    values have their names still, by which bounds are stated. Values may be others by then, as rows of a table are."""

    writes: Writes
    units: Sequence[Unit]

    @property
    def weights(self) -> frozenset[Value]:
        """The weights of the units."""
        held = (unit.node.inputs[unit.weight] for unit in self.units if unit.weight >= 0)
        return frozenset(value for value in held if value is not None)

    def carry_out(self) -> None:
        """Change the model."""
        units = [unit.now() for unit in self.units]
        for before, after in zip(self.units, units, strict=True):
            for (_, old), (_, new) in zip(before.inputs, after.inputs, strict=True):
                self.writes.follow(old, new)
        self.writes.promise(units)
        self.writes.emit(units)


def decide_static(ctx: Context, settings: Settings) -> Decided | None:
    """Which units the target is to run in integers, on the sample data; None if there are none."""
    if ctx.samples is None:
        raise UserError("mode=static needs sample data: give --data FILE.npz, or --data random for generated inputs")
    if ctx.backend is None:
        raise UserError("mode=static needs an executor")
    mark = ctx.rewriter.mark()
    aim = settings.aim
    is_wide = TYPES[aim.activation_type].itemsize > 1
    opsets = (SIXTEEN_BITS, *([PER_CHANNEL] if aim.takes_contrib else [])) if is_wide else (PER_CHANNEL,)
    if not opened(ctx, *opsets):
        return None
    if settings.latency == "measure" and not aim.runs_here:
        raise UserError(f"latency=measure: {aim.title} does not run here: say latency=profile or off")
    turn_weights(ctx)
    units = Units(ctx.model, aim, ctx.shapes(), partial(_excluded, ctx, settings, aim))
    values = list(values_of(units.found))
    ranges = _ranges(ctx, settings, aim, values)
    shapes = seen(ctx, values)
    known = units.known(ranges, shapes)
    emitter = Emitter(ctx, aim, parameters(known, ranges, aim), settings.format)
    costs = _costs(ctx, settings, emitter, shapes)
    choice = choose(ctx, known, costs, Trials(ctx, emitter, SAMPLES), settings.error)
    ledger = Ledger(ctx, known, choice, costs, settings.error, aim)
    ledger.decisions(units.declined, shapes)
    if not choice.units:
        ctx.rewriter.rollback(mark)
        return None
    quantized = [value for value in needed(choice.units) if value.const is None]
    ledger.activations(codings(ctx, quantized, emitter.of))
    return Decided(emitter, choice.units)


def opened(ctx: Context, *opsets: int) -> bool:
    """Whether the model can be quantized: it is not yet, and is of the first of `opsets` to which it could be raised,
    or higher."""
    if is_quantized(ctx.model):
        ctx.remarks.missed("model", "it is quantized already: its activations are left as they are", rule="quantized")
        return False
    chance = _random_node(ctx.model)
    if chance is not None:
        why = f"{chance.op_type} {chance.label} draws random numbers: neither ranges nor errors can be told"
        ctx.remarks.missed("model", why, rule="random")
        return False
    problem = None
    for opset in opsets:
        problem = raise_opset(ctx, opset)
        if not problem:
            return True
    hint = f"convert the model to opset {opsets[-1]} first"
    ctx.remarks.missed("model", str(problem), rule="opset", suggestion=hint)
    return False


CONTRIB = ("DequantizeLinear", "MatMulIntegerToFloat", "MatMulNBits", "QGemm", "QuantizeLinear")
"""Operators of onnxruntime's own domain that read or make levels, but for those called `QLinear` and something."""


def is_quantized(model: Model) -> bool:
    """Whether values are decoded from integers anywhere."""
    return any(
        node.is_op("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
        or (node.domain == "com.microsoft" and node.op_type in CONTRIB)
        or node.op_type.startswith("QLinear")
        or any(scales_levels(node, slot) for slot in range(min(2, len(node.inputs))))
        for graph in model.walk_graphs()
        for node in graph.nodes
    )


def _random_node(model: Model) -> Node | None:
    """A node of the standard domain whose results differ from run to run."""
    purity = Purity(model)
    return next(
        (
            node
            for graph in model.walk_graphs()
            for node in graph.nodes
            if not node.domain and not node.bodies and not purity.is_pure(node)
        ),
        None,
    )


def left_out(ctx: Context, settings: Settings, unit: Unit) -> str:
    """Why a unit is left out by the user; empty if it is not."""
    if not all(ctx.selects(node) for node in (unit.node, unit.tail) if node is not None):
        return "the pass may not act on it"
    weight = unit.node.input(unit.weight) if unit.weight >= 0 else None
    names = [unit.node.label, unit.node.outputs[0].name, *([] if weight is None else [weight.name])]
    pattern = next((p for p in settings.exclude if any(fnmatchcase(name, p) for name in names)), None)
    return "" if pattern is None else f"exclude has {pattern!r}"


def _excluded(ctx: Context, settings: Settings, aim: Profile, unit: Unit) -> str:
    """Why a unit is left out by the user, or cannot be written or fused in the form that was asked for; empty if
    nothing stands against it."""
    why = left_out(ctx, settings, unit)
    if settings.format == "qoperator":
        return why or why_not(unit, aim)
    if settings.latency != "off" and not aim.is_fused:
        return why or f"{aim.title} is not sure to compute in integers where activations are {aim.activation_type}"
    return why


def _ranges(ctx: Context, settings: Settings, aim: Profile, values: Sequence[Value]) -> dict[Value, Range]:
    """The ranges of activations on the sample data, by the method that was asked for."""
    bits = TYPES[aim.activation_type].itemsize * 8
    return calibrate(
        ctx, values, method=settings.calibration, percentile=settings.percentile, bits=bits,
        symmetric=aim.is_symmetric, cache=settings.cache, purpose="mode=static",
    )  # fmt: skip


def _costs(ctx: Context, settings: Settings, emitter: Emitter, shapes: Mapping[Value, Shape]) -> Costs:
    if settings.latency == "off" or not emitter.profile.costs:
        return Free()
    if settings.latency == "profile":
        return EstimatedCosts(emitter.profile, shapes)
    assert ctx.backend is not None
    alone = Alone(emitter, shapes, ctx.model.opset[""], ctx.model.ir_version)
    return MeasuredCosts(ctx.backend, alone, shapes)


class ShapeSeen:
    """The shape of a value in the first sample; in the body of a loop, in one turn of it."""

    def __init__(self, value: Value) -> None:
        around = None if value.graph is None else value.graph.parent
        self._turns = int(around is not None and around.op_type != "If")
        self.shape: Shape | None = None

    def update(self, array: Array) -> None:
        """Take the first."""
        if self.shape is None:
            self.shape = array.shape[self._turns :]


def seen(ctx: Context, values: Sequence[Value]) -> dict[Value, Shape]:
    """The shapes of values in the first sample that computes them: branches may come later."""
    shapes = {value: ShapeSeen(value) for value in values}
    first = list(islice(ctx.feeds(), 1))
    observe(ctx, {value: [one] for value, one in shapes.items()}, purpose="shapes", samples=first)
    rest = {value: [one] for value, one in shapes.items() if one.shape is None}
    if rest:
        observe(ctx, rest, purpose="shapes")
    return {value: one.shape for value, one in shapes.items() if one.shape is not None}


def parameters(units: Sequence[Unit], ranges: Mapping[Value, Range], aim: Profile) -> dict[Value, Affine]:
    """The parameters of the activations of units; what a mover makes has those of what it reads."""
    dtype = TYPES[aim.activation_type]
    movers = {value: unit.inputs[0][1] for unit in units if unit.is_mover for value in unit.outputs}
    fixed = {value: unit.rule for unit in units if unit.rule.scale for value in unit.outputs}
    of: dict[Value, Affine] = {}

    def find(value: Value) -> Affine:
        if value not in of:
            if value in movers:
                of[value] = find(movers[value])
            elif value in fixed:
                of[value] = Affine(fixed[value].scale, fixed[value].zero, dtype)
            elif value.const is not None:
                numbers = value.const.numpy()
                of[value] = affine(Range(float(numbers.min()), float(numbers.max())), dtype, symmetric=aim.is_symmetric)
            else:
                of[value] = affine(ranges[value], dtype, symmetric=aim.is_symmetric)
        return of[value]

    for unit in units:
        for value in (*(value for _, value in unit.inputs), *unit.outputs):
            find(value)
    return of
