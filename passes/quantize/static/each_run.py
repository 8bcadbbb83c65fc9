"""Products that stand alone among floats: their input is quantized in the range that it has in each run.

Where a MatMul reads what is in float and leaves its result in float, known parameters save nothing: the range of a run
is found in the walk that quantizes, nothing saturates, and steps are no wider than that run needs. A runtime that fuses
DynamicQuantizeLinear, MatMulInteger and what scales the sums takes the bias behind it in, too. What another unit reads
or makes in integers needs the parameters of the data, and so does a weight whose other readers need them. Movers in
front of such a product stay in float: moving bytes instead saves less than that the bias is taken in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ....ir import Node, Value
from ...calibrate.ranges import Array
from ...manager.context import Context
from ..dynamic.emit import DynamicWriter, rounded_in_a_run
from .emit import Coded, Emitter, made_by, needed
from .units import Unit


def alone(units: Sequence[Unit]) -> frozenset[Unit]:
    """Those of `units` that could take the range of each run if all of them ran in integers."""
    read, made = {value for unit in units for _, value in unit.inputs}, made_by(units)
    found = {
        unit
        for unit in units
        if _is_matmul(unit) and unit.inputs[0][1] not in made and not read.intersection(unit.outputs)
    }
    while True:
        others = [unit for unit in units if unit not in found]
        taken = {*needed(others), *(unit.node.inputs[unit.weight] for unit in others if unit.weight >= 0)}
        left = {unit for unit in found if unit.inputs[0][1] not in taken and unit.node.inputs[1] not in taken}
        if left == found:
            return frozenset(found)
        found = left


def _is_matmul(unit: Unit) -> bool:
    """With a constant matrix; a Gemm has its bias in integers, in steps of a known scale."""
    return unit.node.is_op("MatMul") and unit.weight == 1 and unit.leaves_float


def without_movers(units: Sequence[Unit]) -> list[Unit]:
    """The units without the movers that only lead from float to products with a bias, which could stand alone."""
    readers: dict[Value, list[Unit]] = {}
    for unit in units:
        for _, value in unit.inputs:
            readers.setdefault(value, []).append(unit)
    made, nodes = made_by(units), {unit.node for unit in units}
    ends = {unit for unit in units if _is_matmul(unit) and _has_bias_in_float(unit, nodes)}
    found = {unit for unit in units if unit.is_mover}
    while True:
        fine = found | ends
        left = {
            unit
            for unit in found
            if (maker := made.get(unit.inputs[0][1])) is None or maker in found
            if all(value in readers and fine.issuperset(readers[value]) for value in unit.outputs)
        }
        if left == found:
            return [unit for unit in units if unit not in found]
        found = left


def _has_bias_in_float(unit: Unit, nodes: Collection[Node]) -> bool:
    """Whether all that reads a product is an Add of a constant, in float."""
    uses = unit.node.outputs[0].uses
    user = uses[0].user if len(uses) == 1 else None
    is_bias = isinstance(user, Node) and user.is_op("Add") and any(x is not None and x.const for x in user.inputs)
    return is_bias and user not in nodes


@dataclass(frozen=True)
class EachRun:
    """Writes and codes units; those that stand alone by the ranges of each run, others as `emitter` does."""

    emitter: Emitter
    settled: frozenset[Node] = frozenset()
    """What stands alone in the choice that rounding is for."""

    @property
    def ctx(self) -> Context:
        """That of the emitter."""
        return self.emitter.ctx

    @property
    def top(self) -> int:
        """The largest absolute level of a weight."""
        return self.emitter.top

    def follow(self, old: Value, new: Value) -> None:
        """Take note that the units read `new` now, which stands for `old`."""
        self.emitter.follow(old, new)

    def promise(self, units: Sequence[Unit]) -> None:
        """State the local bounds of what `emit` will do."""
        known, in_each_run = _parted(units)
        self.emitter.promise(known)
        self._dynamic.promise(in_each_run)

    def emit(self, units: Sequence[Unit]) -> None:
        """Let these units run in integers."""
        known, in_each_run = _parted(units)
        self.emitter.emit(known)
        self._dynamic.emit(in_each_run)

    def coded(self, unit: Unit) -> Coded:
        """The weight and the bias of a unit."""
        return self.emitter.coded(unit)

    def recode(self, unit: Unit, coded: Coded) -> None:
        """Take others."""
        self.emitter.recode(unit, coded)

    def rounded(self, unit: Unit, x: Array) -> Array:
        """What the input of a unit becomes."""
        return rounded_in_a_run(x) if unit.node in self.settled else self.emitter.rounded(unit, x)

    def bias_step(self, unit: Unit) -> float | None:
        """What steps of the weight are multiplied by to be those of the bias; None if that is in float."""
        return self.emitter.bias_step(unit)

    @property
    def _dynamic(self) -> DynamicWriter:
        return DynamicWriter(self.ctx, self.coded)


def _parted(units: Sequence[Unit]) -> tuple[list[Unit], list[Unit]]:
    """By the ranges of the data, and by those of each run."""
    kept = without_movers(units)
    found = alone(kept)
    return [unit for unit in kept if unit not in found], [unit for unit in kept if unit in found]
