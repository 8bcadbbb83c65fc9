"""Static quantization of a model: ranges on sample data, the units that pay, and Q and DQ around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....errors import UserError
from ....ir import Value
from ...calibrate.ranges import Array, MinMax, Range
from ...calibrate.stream import observe
from ...graph.opset import raise_opset
from ...manager.context import Context
from ..targets.profile import Profile, profile
from .affine import TYPES, Affine, affine
from .alone import Alone, Shape
from .choose import choose
from .cut import Costs
from .emit import Emitter
from .estimated import EstimatedCosts
from .measured import MeasuredCosts
from .trial import Trials
from .units import Unit, Units, values_of

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


def quantize_static(ctx: Context, settings: Settings) -> None:
    """Quantize activations and weights of the units that the target runs in integers."""
    aim = profile(settings.target)
    problem = raise_opset(ctx, PER_CHANNEL)
    if problem:
        ctx.remarks.missed("model", problem, rule="opset", suggestion="convert the model to opset 13 first")
        return
    units = Units(ctx.model, aim, ctx.shapes())
    ranges, shapes = observed(ctx, list(values_of(units.found)))
    known = [unit for unit in units.found if all(v in ranges for v in (*unit.activations, *unit.outputs))]
    emitter = Emitter(ctx, aim, parameters(known, ranges, aim))
    costs = _costs(ctx, settings, emitter, shapes)
    choice = choose(ctx, known, costs, Trials(ctx, emitter, SAMPLES), settings.error)
    emitter.emit(choice.units)


def _costs(ctx: Context, settings: Settings, emitter: Emitter, shapes: Mapping[Value, Shape]) -> Costs:
    assert ctx.backend is not None
    if settings.latency != "measure":
        return EstimatedCosts(emitter.profile, shapes)
    alone = Alone(emitter, shapes, ctx.model.opset[""], ctx.model.ir_version)
    return MeasuredCosts(ctx.backend, alone, shapes)


class ShapeSeen:
    """The shape of a value in the first sample."""

    def __init__(self) -> None:
        self.shape: Shape | None = None

    def update(self, array: Array) -> None:
        """Take the first."""
        if self.shape is None:
            self.shape = array.shape


def observed(ctx: Context, values: Sequence[Value]) -> tuple[dict[Value, Range], dict[Value, Shape]]:
    """The ranges of values on the sample data, and their shapes in the first."""
    if ctx.samples is None:
        raise UserError("mode=static needs sample data: give --data FILE.npz, or --data random for generated inputs")
    ranges = {value: MinMax() for value in values}
    shapes = {value: ShapeSeen() for value in values}
    observe(ctx, {value: [ranges[value], shapes[value]] for value in values}, purpose="ranges")
    found = {value: one.range() for value, one in ranges.items()}
    seen = {value: one.shape for value, one in shapes.items()}
    return {v: one for v, one in found.items() if one is not None}, {
        v: one for v, one in seen.items() if one is not None
    }


def parameters(units: Sequence[Unit], ranges: Mapping[Value, Range], aim: Profile) -> dict[Value, Affine]:
    """The parameters of the activations of units; what a mover makes has those of what it reads."""
    dtype = TYPES[aim.activation_type]
    movers = {value: unit.inputs[0][1] for unit in units if unit.is_mover for value in unit.outputs}
    of: dict[Value, Affine] = {}

    def find(value: Value) -> Affine:
        if value not in of:
            if value in movers:
                of[value] = find(movers[value])
            elif value.const is not None:
                numbers = value.const.numpy()
                of[value] = affine(Range(float(numbers.min()), float(numbers.max())), dtype, symmetric=False)
            else:
                of[value] = affine(ranges[value], dtype, symmetric=aim.is_symmetric)
        return of[value]

    for unit in units:
        for value in (*(value for _, value in unit.inputs), *unit.outputs):
            find(value)
    return of
