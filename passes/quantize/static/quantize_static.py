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
from ...equalize.insert import Inserted
from ...graph.opset import raise_opset
from ...manager.context import Context
from ..rounding.options import Rounder
from ..sites import scales_levels
from ..targets.profile import Profile, profile
from .affine import TYPES, Affine, affine
from .alone import Alone, Shape
from .choose import Choice, choose, fastest
from .coder import Coder
from .cut import Costs, Free, time_of
from .emit import SIXTEEN_BITS, Emitter, needed
from .equalized import Equalize, WithFactors, equalized
from .estimated import EstimatedCosts
from .joined import only_joined
from .ledger import Ledger, codings
from .measured import MeasuredCosts
from .qoperator import why_not
from .ranges import Calibration, chosen_ranges
from .spelled import Spelling
from .trial import Trials
from .units import Unit, Units, values_of
from .upright import turn_weights
from .whole import Whole, not_slower

SAMPLES = 16
"""Samples on which errors of choices are measured."""
RECURRENT = ("LSTM", "GRU", "RNN")
PER_CHANNEL = 13
"""The opset from which on scales may run along an axis."""


@dataclass(frozen=True)
class Settings:
    """The options of mode=static."""

    target: str
    latency: str
    error: float
    exclude: tuple[str, ...] = ()
    calibration: Calibration = "minmax"
    percentile: float = PERCENTILE
    cache: str = ""
    equalize: Equalize = "false"
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
    coder: Coder
    units: Sequence[Unit]

    @property
    def weights(self) -> frozenset[Value]:
        """The weights of the units."""
        held = (unit.node.inputs[unit.weight] for unit in self.units if unit.weight >= 0)
        return frozenset(value for value in held if value is not None)

    def carry_out(self, ctx: Context, rounder: Rounder) -> None:
        """Find better levels for weights, and biases; then change the model."""
        units = [unit.now() for unit in self.units]
        for before, after in zip(self.units, units, strict=True):
            for (_, old), (_, new) in zip(before.inputs, after.inputs, strict=True):
                self.writes.follow(old, new)
        rounder.units(ctx, self.coder, units)
        self.writes.promise(units)
        self.writes.emit(units)


def decide_static(ctx: Context, settings: Settings) -> Decided | None:
    """Which units the target is to run in integers, on the sample data; None if there are none."""
    if ctx.samples is None:
        raise UserError("mode=static needs sample data: give --data FILE.npz, or --data random for generated inputs")
    if ctx.backend is None:
        raise UserError("mode=static needs an executor")
    mark, account = ctx.rewriter.mark(), ctx.weights.mark()
    aim = settings.aim
    is_wide = TYPES[aim.activation_type].itemsize > 1
    opsets = (SIXTEEN_BITS, *([PER_CHANNEL] if aim.takes_contrib else [])) if is_wide else (PER_CHANNEL,)
    if not opened(ctx, *opsets):
        return None
    if settings.latency == "measure" and not aim.runs_here:
        raise UserError(f"latency=measure: {aim.title} does not run here: say latency=profile or off")
    whole = Whole(ctx, ctx.backend) if settings.latency == "measure" else None
    turn_weights(ctx)
    drafter = Drafter(ctx, settings, aim)
    kept = equalized(ctx, settings.equalize, drafter, settings.error)
    draft, choice = kept.draft, kept.draft.choice
    if whole is not None:
        choice = not_slower(whole, choice, draft.costs, draft.writes, draft.trials, settings.error)
    ledger = Ledger(ctx, draft.units, choice, draft.times, settings.error, aim)
    ledger.decisions(draft.declined, draft.shapes)
    if not choice.units:
        ctx.rewriter.rollback(mark)
        ctx.weights.restore(account)
        return None
    kept.factors.take_back_unused(ctx, choice.units)
    ctx.bounds.extend(kept.factors.statements())
    quantized = [value for value in needed(choice.units) if value.const is None]
    ledger.activations(codings(ctx, quantized, draft.emitter.of))
    return Decided(draft.writes, draft.emitter, choice.units)


@dataclass(frozen=True)
class Draft:
    """Ranges of activations, times, and the fastest choice, of the model as it is."""

    units: list[Unit]
    declined: Mapping[Node, str]
    ranges: dict[Value, Range]
    shapes: Mapping[Value, Shape]
    emitter: Emitter
    writes: Spelling
    times: Costs
    costs: Costs
    """`times`, with what factors cost."""
    trials: Trials
    fastest: Choice
    choice: Choice
    """What is to run in integers: the fastest choice, until another was found that is within the limit."""

    @property
    def error(self) -> float:
        """rel-L2 of the fastest choice."""
        return self.fastest.error

    @property
    def time(self) -> float:
        """Microseconds of all units with the choice."""
        return time_of(self.units, self.choice.units, self.costs)

    def wants_factors(self, node: Node) -> bool:
        """Whether a Mul before a node costs no more than a walk: it is to run in integers, and reads float."""
        made = {value for unit in self.fastest.units for value in unit.outputs}
        return any(unit.node is node and not made & {*unit.activations} for unit in self.fastest.units)


class Drafter:
    """Makes drafts of the model that `ctx` holds."""

    def __init__(self, ctx: Context, settings: Settings, aim: Profile) -> None:
        self._ctx, self._settings, self._aim = ctx, settings, aim
        self._trials: Trials | None = None

    def draft(self, inserted: Sequence[Inserted]) -> Draft:
        """A draft; what was inserted is left in float. The statistics of a model with factors are not for the cache."""
        ctx, settings, aim = self._ctx, self._settings, self._aim
        muls = {one.node for one in inserted}
        units = Units(ctx.model, aim, ctx.shapes(), partial(_excluded, ctx, settings, aim))
        units.found = [unit for unit in units.found if unit.node not in muls]
        values = list(values_of(units.found))
        first = self._trials is None
        ranges = _ranges(ctx, settings if first else replace(settings, cache=""), aim, values)
        shapes = seen(ctx, values)
        known = units.known(ranges, shapes)
        emitter = Emitter(ctx, aim, parameters(known, ranges, aim), settings.format)
        times = _costs(ctx, settings, emitter, shapes)
        costs = WithFactors(times, frozenset(one.scaled for one in inserted)) if inserted else times
        writes = Spelling(emitter, [unit for unit in known if times.spells(unit)])
        trials = Trials(ctx, writes, SAMPLES) if self._trials is None else self._trials.of(writes)
        self._trials = trials
        best = fastest(known, costs, trials)
        return Draft(known, units.declined, ranges, shapes, emitter, writes, times, costs, trials, best, best)

    def refined(self, draft: Draft) -> Draft:
        """With ranges cut where readers err less for it, if outputs err too much without and less with it."""
        ctx, best = self._ctx, draft.fastest
        if self._settings.calibration != "auto" or draft.error <= self._settings.error or not best.units:
            return draft
        ranges = chosen_ranges(ctx, draft.units, list(values_of(draft.units)), self._aim)
        if not ranges:
            return draft
        emitter = replace(draft.emitter, of=parameters(draft.units, draft.ranges | ranges, self._aim), weights={})
        writes = replace(draft.writes, emitter=emitter)
        trials = draft.trials.of(writes)
        error = trials.error(best.units)
        how = f"rel-L2 {error:.2g} with ranges chosen value by value, {best.error:.2g} with all that was seen"
        if error >= best.error:
            ctx.remarks.missed("model", how, rule="calibration")
            return draft
        ctx.remarks.applied("model", how, rule="calibration")
        found = replace(best, error=error)
        return replace(draft, emitter=emitter, writes=writes, trials=trials, fastest=found, choice=found)

    def decided(self, draft: Draft) -> Draft:
        """The draft with the units that run in integers within the limit."""
        limit = self._settings.error
        choice = choose(self._ctx, draft.units, draft.costs, draft.trials, limit, draft.fastest)
        return replace(draft, choice=choice)

    def selects(self, node: Node) -> bool:
        """Whether weights of a node may be scaled, and what leaves its branches. Those of recurrent layers have bounds
        of their own, and stay; and an If keeps the name of its output, by which values in its branches are told."""
        names = [value.name for value in node.inputs if value is not None and value.const is not None]
        out = excluded([node.label, node.outputs[0].name, *names], self._settings)
        return self._ctx.selects(node) and out is None and not node.is_op(*RECURRENT, "If")


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
    pattern = excluded(names, settings)
    return "" if pattern is None else f"exclude has {pattern!r}"


def excluded(names: Sequence[str], settings: Settings) -> str | None:
    """The first pattern of `exclude` that one of the names matches."""
    return next((p for p in settings.exclude if any(fnmatchcase(name, p) for name in names)), None)


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
    """The ranges of activations on the sample data, by the method that was asked for; of `auto` the whole ones."""
    bits = TYPES[aim.activation_type].itemsize * 8
    method: Method = "minmax" if settings.calibration == "auto" else settings.calibration
    return calibrate(
        ctx, values, method=method, percentile=settings.percentile, bits=bits,
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
    """The parameters of the activations of units; what a mover makes has those of what it reads, and what only a Concat
    reads those of what it makes."""
    dtype = TYPES[aim.activation_type]
    movers = {value: unit.inputs[0][1] for unit in units if unit.is_mover for value in unit.outputs}
    fixed = {value: unit.rule for unit in units if unit.rule.scale for value in unit.outputs}
    joined = {value: whole for value, whole in only_joined(units).items() if value not in fixed}
    of: dict[Value, Affine] = {}

    def find(value: Value) -> Affine:
        if value not in of:
            if value in joined:
                of[value] = find(joined[value])
            elif value in movers:
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
