"""The ledger of static quantization: every unit and every activation, what became of it and why, in numbers.

Of an activation: its range, scale and zero point; on the first samples its SQNR in dB and the share of numbers that
saturate. Of a unit: its times, its own error on the outputs where that was asked for, and the reason if it stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ....ir import Node, Value
from ....ir.analysis.cost import node_macs
from ...calibrate.ranges import Array
from ...calibrate.stream import observe
from ...manager.context import Context
from ...manager.layer_rows import Cell, LayerRow
from ..targets.profile import Profile, Role
from .affine import Affine
from .choose import Choice
from .cut import Costs, Free, time_of
from .estimated import EstimatedCosts, work
from .measured import MeasuredCosts
from .units import Unit

BY = "quantize-insert"
SAMPLES = 16
"""Samples on which SQNR and saturation are counted."""


class Coding:
    """An observer of what quantization does to a value: signal, noise, and numbers outside the range, exactly."""

    def __init__(self, affine: Affine) -> None:
        self.affine = affine
        self.signal = self.noise = 0.0
        self.count = self.outside = 0

    def update(self, array: Array) -> None:
        """Take the numbers of one sample into account; NaN and Inf are left out."""
        x = np.asarray(array, np.float64)
        x = x[np.isfinite(x)]
        self.count += x.size
        self.signal += float(np.square(x).sum())
        self.noise += float(np.square(self.affine.rounded(x) - x).sum())
        half = self.affine.scale / 2
        self.outside += int(np.count_nonzero((x < self.affine.low - half) | (x > self.affine.high + half)))

    @property
    def sqnr(self) -> float:
        """10 log10 of signal over noise; infinite without noise."""
        if not self.noise:
            return float("inf")
        return 10 * float(np.log10(self.signal / self.noise)) if self.signal else float("-inf")

    @property
    def saturation(self) -> float:
        """The share of numbers that are clipped by more than rounding does."""
        return self.outside / max(1, self.count)


def codings(ctx: Context, values: Iterable[Value], of: Mapping[Value, Affine]) -> dict[Value, Coding]:
    """What quantization does to each value on the first samples."""
    found = {value: Coding(of[value]) for value in values}
    samples = list(islice(ctx.feeds(), SAMPLES))
    observe(ctx, {value: [one] for value, one in found.items()}, purpose="ledger", samples=samples)
    return found


@dataclass(frozen=True)
class Ledger:
    """Writes rows and remarks of a choice among `units`."""

    ctx: Context
    units: Sequence[Unit]
    choice: Choice
    costs: Costs
    limit: float
    profile: Profile
    in_each_run: Collection[Unit] = ()
    """Units whose inputs get the ranges of each run."""

    def activations(self, found: Mapping[Value, Coding]) -> None:
        """A row for every activation that is quantized."""
        for value, one in found.items():
            affine = one.affine
            cells: dict[str, Cell] = {
                "as": affine.dtype.name,
                "low": affine.low,
                "high": affine.high,
                "scale": affine.scale,
                "zero": affine.zero,
                "SQNR dB": one.sqnr,
                "saturated": one.saturation,
            }
            self.ctx.layers.append(LayerRow(BY, value.name, cells))

    def decisions(self, declined: Mapping[Node, str], shapes: Mapping[Value, tuple[int, ...]]) -> None:
        """A remark for every unit, and for what is none although the target knows its operator."""
        taken = set(self.choice.units)
        for unit in self.units:
            if unit in taken:
                self.ctx.remarks.applied(unit.node.label, self._times(unit), rule="integers")
            elif taken and self.costs.spells(unit):
                what = f"{unit.node.op_type} is spelled out in float: {self.costs.unit(unit)[0]:.3g} us"
                self.ctx.remarks.applied(unit.node.label, f"{what}, {self._source()}", rule="spelled")
            else:
                self.ctx.remarks.missed(unit.node.label, self._why(unit), rule="float")
        for node, why in declined.items():
            self.ctx.remarks.missed(node.label, why, rule="float")
        self._share(shapes)
        self._predicted()

    def _times(self, unit: Unit) -> str:
        in_float, in_integers = self.costs.unit(unit)
        if isinstance(self.costs, Free):
            return f"{unit.node.op_type} runs in integers; its time is not looked at"
        how = "runs in integers, in the ranges of each run" if unit in self.in_each_run else "runs in integers"
        return f"{unit.node.op_type} {how}: {in_integers:.3g} us for {in_float:.3g} us, {self._source()}"

    def _why(self, unit: Unit) -> str:
        in_float, in_integers = self.costs.unit(unit)
        error = self.choice.sensitivity.get(unit)
        if in_integers >= in_float and not isinstance(self.costs, Free):
            return f"{unit.node.op_type} is not faster in integers: {in_integers:.3g} us for {in_float:.3g} us"
        if error is not None and error > self.limit / 10:
            return f"{unit.node.op_type} alone would cost the outputs {error:.2g} of rel-L2"
        return f"{unit.node.op_type} would not pay for what is quantized and decoded around it"

    def _source(self) -> str:
        return "measured" if isinstance(self.costs, MeasuredCosts) else "estimated"

    def _predicted(self) -> None:
        """What the units take together by the target's table, if it has one."""
        if not isinstance(self.costs, EstimatedCosts) or not self.choice.units:
            return
        before, after = (time_of(self.units, taken, self.costs) for taken in ((), frozenset(self.choice.units)))
        what = f"by the table of {self.profile.name} the units take {after:.4g} us for {before:.4g} us"
        self.ctx.remarks.applied("model", f"{what}: predicted, not measured", rule="latency")

    def _share(self, shapes: Mapping[Value, tuple[int, ...]]) -> None:
        """How much of the work runs in integers."""
        inferred = self.ctx.shapes()
        mine = {unit.node: work(unit, shapes)[0] for unit in self.units if unit.rule.role is Role.COMPUTE}
        total = sum(
            mine[node] if node in mine else float(node_macs(node, inferred) or 0)
            for graph in self.ctx.model.graph.walk_graphs()
            for node in graph.nodes
        )
        integers = sum(mine.get(unit.node, 0.0) for unit in self.choice.units)
        share = integers / total if total else 0.0
        what = f"{share:.0%} of the MACs run in integers, in {len(self.choice.units)} of {len(self.units)} units"
        if not self.profile.runs_here:
            what = f"{what}; not measured: {self.profile.title} does not run here"
        say = self.ctx.remarks.applied if self.choice.units else self.ctx.remarks.missed
        say("model", f"{what}; rel-L2 {self.choice.error:.2g} on the samples", rule="share")
