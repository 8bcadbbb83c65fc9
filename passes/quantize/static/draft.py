"""Drafts: ranges of activations, times, and the fastest choice of units, of a model as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from ....ir import Node, Value
from ...calibrate.calibrate import calibrate
from ...calibrate.ranges import Array, Range
from ...calibrate.statistics import Method
from ...calibrate.stream import observe
from ...equalize.insert import Inserted
from ...manager.context import Context
from ..rounding.options import Rounder
from ..targets.profile import Profile
from .affine import TYPES, Affine, affine
from .alone import Alone, Shape
from .choose import Choice, choose, fastest
from .coder import Coder
from .cut import Costs, Free, time_of
from .each_run import EachRun, alone, without_movers
from .emit import Emitter
from .equalized import WithFactors
from .estimated import EstimatedCosts
from .joined import only_joined
from .measured import MeasuredCosts
from .ranges import chosen_ranges
from .settings import Settings, excluded, why_excluded
from .spelled import Spelling
from .trial import Trials
from .units import Unit, Units, values_of

SAMPLES = 16
"""Samples on which errors of choices are measured."""
RECURRENT = ("LSTM", "GRU", "RNN")


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
    each_run: EachRun | None = None
    """What writes by ranges of each run, if that is better."""
    cut: Mapping[Value, Range] | None = None
    """The ranges that were chosen value by value, if any were looked for."""
    before: Draft | None = None
    """That of the model before channels were rescaled: by powers of two, so that no value but these has changed."""
    touched: frozenset[Value] = frozenset()
    """The values that were rescaled since."""
    reread: frozenset[Value] = frozenset()
    """The values that Muls read now, in place of others."""

    @property
    def error(self) -> float:
        """rel-L2 of the fastest choice."""
        return self.fastest.error

    @property
    def time(self) -> float:
        """Microseconds of all units with the choice."""
        return time_of(self.units, self.choice.units, self.costs)

    def settled(self, choice: Choice) -> tuple[Choice, frozenset[Unit]]:
        """A choice as it is written, and the units whose inputs get the ranges of each run."""
        if self.each_run is None:
            return choice, frozenset()
        units = without_movers(choice.units)
        return replace(choice, units=units), alone(units)

    def coder(self, in_each_run: Collection[Unit]) -> Coder:
        """What holds the weights, of which these units get the ranges of each run."""
        if self.each_run is None:
            return self.emitter
        return replace(self.each_run, settled=frozenset(unit.node for unit in in_each_run))

    @property
    def cut_before(self) -> dict[Value, Range]:
        """The ranges that were chosen before channels were rescaled, of values for which they would be chosen now."""
        return without(self.before.cut or {}, self.touched | self.reread) if self.before is not None else {}

    @property
    def errors_before(self) -> dict[Unit, float]:
        """The errors of units alone that were measured before, of those that nothing has changed for."""
        if self.before is None or (self.before.each_run is None) != (self.each_run is None):
            return {}
        was, errors = self.before.emitter.of, {unit.node: e for unit, e in self.before.choice.sensitivity.items()}

        def is_as_before(value: Value) -> bool:
            return value not in self.touched and was.get(value) == self.emitter.of[value]

        return {
            unit: errors[unit.node]
            for unit in self.units
            if unit.node in errors and all(map(is_as_before, (*(value for _, value in unit.inputs), *unit.outputs)))
        }

    def wants_factors(self, node: Node) -> bool:
        """Whether a Mul before a node costs no more than a walk: it is to run in integers, and reads float."""
        made = {value for unit in self.fastest.units for value in unit.outputs}
        return any(unit.node is node and not made & {*unit.activations} for unit in self.fastest.units)


class Drafter:
    """Makes drafts of the model that `ctx` holds."""

    def __init__(self, ctx: Context, settings: Settings, aim: Profile, rounder: Rounder) -> None:
        self._ctx, self._settings, self._aim, self._rounder = ctx, settings, aim, rounder
        self._trials: Trials | None = None

    def draft(
        self, inserted: Sequence[Inserted], before: Draft | None = None, touched: Collection[Value] = ()
    ) -> Draft:
        """A draft; what was inserted is left in float. The statistics of a model with factors are not for the cache.
        What is known from a draft `before`, of all but values that were `touched` since, is not measured again."""
        ctx, settings, aim = self._ctx, self._settings, self._aim
        muls = {one.node for one in inserted}
        units = Units(ctx.model, aim, ctx.shapes(), partial(why_excluded, ctx, settings, aim))
        units.found = [unit for unit in units.found if unit.node not in muls]
        values = list(values_of(units.found))
        first = self._trials is None
        ranges = {} if before is None else without(before.ranges, touched)
        missing = [value for value in values if value not in ranges]
        ranges |= _ranges(ctx, settings if first else replace(settings, cache=""), aim, missing)
        shapes = dict({} if before is None else before.shapes) | seen(ctx, missing)
        known = units.known(ranges, shapes)
        emitter = Emitter(ctx, aim, parameters(known, ranges, aim), settings.format)
        times = _costs(ctx, settings, emitter, shapes)
        costs = WithFactors(times, frozenset(one.scaled for one in inserted)) if inserted else times
        writes = Spelling(emitter, [unit for unit in known if times.spells(unit)])
        trials = Trials(ctx, writes, SAMPLES) if self._trials is None else self._trials.of(writes)
        self._trials = trials
        best = fastest(known, costs, trials)
        return Draft(
            known, units.declined, ranges, shapes, emitter, writes, times, costs, trials, best, best,
            before=before, touched=frozenset(touched), reread=frozenset(one.value for one in inserted),
        )  # fmt: skip

    def refined(self, draft: Draft) -> Draft:
        """With better ranges than all that was seen, where the outputs err less for them."""
        if self._settings.calibration != "auto" or not draft.fastest.units:
            return draft
        return self._in_each_run(self._cut(draft))

    def _in_each_run(self, draft: Draft) -> Draft:
        """With ranges of each run for products that stand alone, if the target is as fast with them."""
        settings, units = self._settings, without_movers(draft.fastest.units)
        is_wanted = settings.latency != "off" and settings.format == "qdq"  # qoperator takes biases in by itself
        if not is_wanted or not self._aim.has_ranges_of_runs or not alone(units):
            return draft
        each_run = EachRun(draft.emitter)
        found = self._tried(draft, replace(draft.writes, emitter=each_run), "of each run where products stand alone")
        return draft if found is None else replace(found, each_run=each_run)

    def _cut(self, draft: Draft) -> Draft:
        """With ranges cut where readers err less for it, if outputs err too much without and less with it."""
        if draft.error <= self._settings.error:
            return draft
        ranges = draft.cut_before
        missing = [value for value in values_of(draft.units) if value not in ranges]
        ranges |= chosen_ranges(self._ctx, draft.units, missing, self._aim)
        draft = replace(draft, cut=ranges)
        if not ranges:
            return draft
        emitter = replace(draft.emitter, of=parameters(draft.units, draft.ranges | ranges, self._aim), weights={})
        found = self._tried(draft, replace(draft.writes, emitter=emitter), "chosen value by value")
        return draft if found is None else replace(found, emitter=emitter)

    def _tried(self, draft: Draft, writes: Spelling, how: str) -> Draft | None:
        """The draft with other ranges, if the fastest choice errs less with them; a remark says how much."""
        best, trials = draft.fastest, draft.trials.of(writes)
        error = trials.error(best.units)
        words = f"rel-L2 {error:.2g} with ranges {how}, {best.error:.2g} without"
        if error >= best.error:
            self._ctx.remarks.missed("model", words, rule="calibration")
            return None
        self._ctx.remarks.applied("model", words, rule="calibration")
        found = replace(best, error=error)
        return replace(draft, writes=writes, trials=trials, fastest=found, choice=found)

    def decided(self, draft: Draft) -> Draft:
        """The draft with the units that run in integers within the limit."""
        limit = self._settings.error
        choice = choose(self._ctx, draft.units, draft.costs, draft.trials, limit, draft.fastest, draft.errors_before)
        return replace(draft, choice=choice)

    def rounded(self, draft: Draft) -> Draft:
        """Decided anew by what outputs lose once weights are rounded by the outputs of their layers, if they lose too
        much with the nearest levels."""
        limit, best = self._settings.error, draft.fastest
        if best.error <= limit or not self._rounder.rounds or self._rounder.is_sequential(8):
            return draft
        settled, in_each_run = draft.settled(best)
        coder = draft.coder(in_each_run)
        self._rounder.weights(self._ctx, coder, settled.units)
        found = replace(best, error=draft.trials.error(best.units))
        words = f"rel-L2 {found.error:.2g} with weights rounded by the outputs of layers, {best.error:.2g} to nearest"
        self._ctx.remarks.applied("model", words, rule="rounding")
        known = {unit: error for unit, error in draft.choice.sensitivity.items() if not _is_rounded(unit, coder)}
        choice = choose(self._ctx, draft.units, draft.costs, draft.trials, limit, found, known)
        return replace(draft, fastest=found, choice=choice)

    def selects(self, node: Node) -> bool:
        """Whether weights of a node may be scaled, and what leaves its branches. Those of recurrent layers have bounds
        of their own, and stay; and an If keeps the name of its output, by which values in its branches are told."""
        names = [value.name for value in node.inputs if value is not None and value.const is not None]
        out = excluded([node.label, node.outputs[0].name, *names], self._settings)
        return self._ctx.selects(node) and out is None and not node.is_op(*RECURRENT, "If")


def _is_rounded(unit: Unit, coder: Coder) -> bool:
    """Whether its weight has other codes than the nearest."""
    return unit.weight >= 0 and not isinstance(coder.coded(unit).found, str)


def without(ranges: Mapping[Value, Range], values: Collection[Value]) -> dict[Value, Range]:
    """The ranges of other values."""
    return {value: within for value, within in ranges.items() if value not in values}


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


def inferred(ctx: Context, values: Iterable[Value]) -> dict[Value, Shape]:
    """The shapes of values of which inference knows all sizes."""
    shapes = ctx.shapes()
    return {value: shape for value in values if (shape := shapes.static_shape(value)) is not None}


def seen(ctx: Context, values: Sequence[Value]) -> dict[Value, Shape]:
    """The shapes of values: as inferred, or as in the first sample that computes them, as branches may come later."""
    found = inferred(ctx, values)
    shapes = {value: ShapeSeen(value) for value in values if value not in found}
    if shapes:
        first = list(islice(ctx.feeds(), 1))
        observe(ctx, {value: [one] for value, one in shapes.items()}, purpose="shapes", samples=first)
    rest = {value: [one] for value, one in shapes.items() if one.shape is None}
    if rest:
        observe(ctx, rest, purpose="shapes")
    return found | {value: one.shape for value, one in shapes.items() if one.shape is not None}


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
