"""Which constants are quantized, how, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from ...ir import Graph, Node, SparseTensor, Tensor, Value
from ...ir.dtypes import is_float, name_of, numpy_dtype
from ..manager.weights import Reason
from .decode import DecodeForm
from .levels import Grid, fit
from .nbits import TYPES, NBits, inputs_axis
from .recipe import Recipe
from .repair.places import Place
from .repair.shift import Correction
from .scales import Choice, Scaling
from .sites import Finder, Readers, Site
from .storage import Storage
from .written import Written

WIDE = Recipe()
"""What is taken where fewer bits would not pay: int8 takes less beside the codes."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done with one constant.

    `rows` are the readers that gather before they decode; `zeros` says that zero points are written; `opset` is the
    lowest that has the nodes, `saved` at least so many bytes in the file.
    """

    graph: Graph
    value: Value
    tensor: Tensor
    readers: Readers
    grid: Grid
    storage: Storage
    rows: tuple[Site, ...]
    is_read_whole: bool
    zeros: bool
    opset: int
    saved: int = 0
    nbits: NBits | None = None
    inputs: int = 0
    """For MatMulNBits: the axis of the weight that is summed over."""
    note: str = ""
    """Why it is not stored as it was asked for."""
    settled: bool = False
    """Whether the biases of its readers were looked at where its codes were chosen."""
    shift: tuple[Place, Correction] | None = None
    """What is added to the outputs of its only reader, and where."""

    def written(self, form: DecodeForm) -> Written:
        """What it takes in the file."""
        if self.nbits is not None:
            return Written(self.nbits.nbytes(self.grid, self.inputs), 3, 3 * len(self.readers.sites))
        return Written.decoded(
            form, self.grid, self.storage, self.tensor.dtype, rows=len(self.rows), whole=self.is_read_whole,
            zeros=self.zeros, in_function=self.graph.is_function,
        )  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """Why a constant stays.

    `is_weight` says whether anybody reads it as a weight, `hint` what would help, `patterns` which globs exclude it.
    """

    reason: Reason
    is_weight: bool = True
    hint: str = ""
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planner:
    """Decides for the constants of one model."""

    finder: Finder
    scaling: Scaling
    min_bytes: int = 0
    exclude: Sequence[str] = ()
    selects: Callable[[Node], bool] = lambda node: True
    """Which readers of weights are meant."""
    nbits: NBits | None = None
    """How MatMulNBits is written, where it can be; None if it is not wanted."""

    def decide(self, graph: Graph, value: Value, tensor: Tensor) -> Plan | Refusal:
        """A plan for the constant `tensor`, which `value` holds in `graph`, or why there is none."""
        if not is_float(tensor.dtype):
            narrow = name_of(tensor.dtype).startswith("float")
            return Refusal(Reason.NO_GAIN if narrow else Reason.NOT_FLOAT, False)
        if value.is_dead:
            return Refusal(Reason.DEAD, False)
        readers = self.finder.readers(value, tensor)
        return self._unfit(value, tensor, readers) or self._plan(graph, value, tensor, readers)

    def in_other_types(self, plan: Plan, recipes: Sequence[Recipe]) -> list[Plan]:
        """The weight of `plan` by other recipes, where they make it smaller."""
        held = plan.graph, plan.value, plan.tensor, plan.readers
        made: list[Plan | Refusal] = []
        for recipe in recipes:
            if plan.nbits is not None and recipe.type in TYPES:
                nbits = NBits.of(recipe, plan.nbits.accuracy_level)
                made.append(self._multiplied(nbits, plan.inputs, *held))
            else:
                made.append(self._decoded(replace(self.scaling, recipe=recipe), *held))
        return [one for one in made if isinstance(one, Plan)]

    def _unfit(self, value: Value, tensor: Tensor, readers: Readers) -> Refusal | None:
        if value.pinned:
            return Refusal(Reason.PINNED, bool(readers.sites))
        if value.is_input:
            return Refusal(Reason.OVERRIDABLE, bool(readers.sites), "run freeze-defaults first")
        if not readers.sites:
            return _no_weight(readers)
        if isinstance(tensor, SparseTensor):
            return Refusal(Reason.SPARSE)
        left_out = next((site.node for site in readers.sites if not self.selects(site.node)), None)
        if left_out is not None:
            return Refusal(Reason.EXCLUDED, hint=f"{left_out.label} reads it, where the pass may not act")
        names = [value.name, *(site.node.label for site in readers.sites)]
        patterns = tuple(p for p in self.exclude if any(fnmatchcase(name, p) for name in names))
        if patterns:
            return Refusal(Reason.EXCLUDED, hint=f"exclude has {patterns[0]!r}", patterns=patterns)
        if tensor.nbytes < self.min_bytes:
            return Refusal(Reason.EXCLUDED, hint=f"min-bytes is {self.min_bytes}")
        return None

    def _plan(self, graph: Graph, value: Value, tensor: Tensor, readers: Readers) -> Plan | Refusal:
        """What was asked for, or else what comes next to it and makes the weight smaller, with a note that says why."""
        if tensor.size == 0 or "" not in graph.opset:
            return Refusal(Reason.NO_GAIN if "" in graph.opset else Reason.OPSET)
        held, notes = (graph, value, tensor, readers), []
        if self.nbits is not None:
            inputs = inputs_axis(graph, value, tensor.dtype, readers)
            made = self._multiplied(self.nbits, inputs, *held) if isinstance(inputs, int) else None
            if made is not None and not _gains_nothing(made):
                return made
            notes.append(f"not in MatMulNBits: {inputs if isinstance(inputs, str) else Reason.NO_GAIN}")
        found = self._decoded(self.scaling, *held)
        why = self._too_narrow(found)
        wide = self._decoded(replace(self.scaling, recipe=WIDE), *held) if why else found
        if why and isinstance(wide, Plan):
            notes.append(f"not in {self.scaling.recipe.alphabet.name}: {why}")
            found = wide
        return replace(found, note="; ".join(notes)) if isinstance(found, Plan) else found

    def _too_narrow(self, found: Plan | Refusal) -> str:
        """Why int8 is better than what was asked for; empty if it is not. Few bits need scales of blocks, which small
        kernels have no room for: a few bytes more save most of the score there."""
        recipe = self.scaling.recipe
        if recipe.alphabet.bits >= WIDE.alphabet.bits:
            return ""
        if _gains_nothing(found):
            return Reason.NO_GAIN
        expects_blocks = recipe.granularity == "auto" and recipe.shares == "block"
        lacks_blocks = expects_blocks and isinstance(found, Plan) and found.grid.block is None
        return f"no axis is longer than a block of {recipe.block}" if lacks_blocks else ""

    def _decoded(
        self, scaling: Scaling, graph: Graph, value: Value, tensor: Tensor, readers: Readers
    ) -> Plan | Refusal:
        """A plan with nodes that decode the weight."""
        form = scaling.form
        expected = form.storage(scaling.recipe.alphabet, graph.opset[""])
        grid = scaling.best(tensor.numpy(), tensor.dtype, readers.sites, expected)
        storage = form.storage(grid.alphabet, graph.opset[""])
        refusal = _unfit(grid, tensor)
        if refusal is not None:
            return refusal
        choice = Choice(grid.axes, grid.block)
        rows = tuple(site for site in readers.sites if site.is_table and scaling.reads_rows(choice, site, storage))
        whole = len(rows) < len(value.uses)
        zeros = form.writes_zeros(grid, storage, any(site.node.is_op("Gemm") for site in readers.sites))
        opset = form.opset(grid, storage, tensor.dtype)
        return self._paying(Plan(graph, value, tensor, readers, grid, storage, rows, whole, zeros, opset))

    def _multiplied(
        self, nbits: NBits, inputs: int, graph: Graph, value: Value, tensor: Tensor, readers: Readers
    ) -> Plan | Refusal:
        """A plan with MatMulNBits."""
        grid = nbits.grid(tensor.numpy(), inputs)
        refusal = _unfit(grid, tensor)
        if refusal is not None:
            return refusal
        plan = Plan(graph, value, tensor, readers, grid, nbits.storage, (), False, False, 1, nbits=nbits, inputs=inputs)
        return self._paying(plan)

    def _paying(self, plan: Plan) -> Plan | Refusal:
        """The plan if it makes the weight smaller, with what it saves."""
        saved = plan.tensor.nbytes - plan.written(self.scaling.form).at_most
        return replace(plan, saved=saved) if saved > 0 else Refusal(Reason.NO_GAIN)


def _gains_nothing(decision: Plan | Refusal) -> bool:
    return isinstance(decision, Refusal) and decision.reason is Reason.NO_GAIN


def _unfit(grid: Grid, tensor: Tensor) -> Refusal | None:
    """Why a weight cannot be stored in a grid."""
    if not np.isfinite(grid.array).all():
        return Refusal(Reason.NON_FINITE)
    return None if fit(grid, numpy_dtype(tensor.dtype)) else Refusal(Reason.OUT_OF_RANGE)


def _no_weight(readers: Readers) -> Refusal:
    if readers.computed:
        labels = ", ".join(sorted({node.label for node in readers.computed})[:3])
        return Refusal(Reason.NOT_RECOGNIZED, True, f"a weight of {labels} is computed from it: run fold first")
    if readers.strangers:
        kinds = ", ".join(sorted({f"{node.domain or 'ai.onnx'}.{node.op_type}" for node in readers.strangers})[:3])
        return Refusal(Reason.NOT_RECOGNIZED, True, f"what {kinds} does with it is not known")
    return Refusal(Reason.NOT_A_WEIGHT, False)
