"""Which nodes compute in 16 bits.

A node does if its operator has such a type, and unless

- it reads a constant that would lose more than its last digits (`plan.harm`): a mask of -3.4e38, an epsilon of 1e-12;
- it computes with what was cast from 32-bit or 64-bit integers alone (sizes, positions, indices): they are exact in
  float32 up to 2^24, in float16 up to 2^11;
- it reads or computes a value that was seen outside the range (`observe`), or that no sample reached;
- it rounds nothing (moves, selects, compares) and what it reads is not all of 16 bits: there it would only lose;
- onnxruntime loads it so, but does not run it, or ends the process (`unfit_for_onnxruntime`).

What a mask, an epsilon or a count goes into by addition, multiplication and the like is as delicate, and stays in
float32 too, up to and with the first operator that is none of these: Softmax, Div, MatMul.

Loop and Scan keep float32 at their borders, since a state that is carried along adds up its errors; their bodies
compute in 16 bits. An output of an If does if all branches give it so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from onnx import TensorProto

from ...ir import Graph, Node, SparseTensor, Use, Value
from ..manager.context import Context
from ..quantize.sites import Finder
from .formats import Format, Toll
from .observe import MOVING, Observed
from .plan import harm
from .signatures import FLOAT, Slots, slots_of

ROUNDING_NOTHING = MOVING | {
    *("Abs", "Cast", "CastLike", "Clip", "Dropout", "GlobalMaxPool", "Max", "MaxPool", "Min", "Neg", "ReduceMax"),
    *("ReduceMin", "Relu", "ScatterElements", "ScatterND", "Sign", "Trilu", "TopK", "Where"),
}
"""Operators whose results are numbers that they read, up to signs."""
PASSING = MOVING | {"Add", "Sub", "Mul", "Neg", "Abs", "Where", "Max", "Min", "Clip", "Sqrt", "Pow", "Floor", "Ceil"}
"""Operators whose results are as delicate as what they read."""
COUNTING = PASSING | {"Div", "Mod", "Reciprocal", "Round"}
"""Operators that make counts of counts."""

INTEGERS = (TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64)


@dataclass
class Choice:
    """What computes in 16 bits: `halves`, of which `narrow` are the outputs. `slots` are those of every known node."""

    slots: dict[Node, Slots] = field(default_factory=dict)
    halves: dict[Node, Slots] = field(default_factory=dict)
    narrow: set[Value] = field(default_factory=set)
    refused: list[tuple[Node, str]] = field(default_factory=list)
    excluding: set[str] = field(default_factory=set)
    """The globs that excluded a node."""


def choose(ctx: Context, format: Format, observed: Observed, exclude: Sequence[str]) -> Choice:
    """Decide for every node of the main graph and of the bodies in it."""
    chooser = _Chooser(ctx, format, observed, exclude, constant_harms(ctx, format))
    chooser.walk(ctx.model.graph)
    return chooser.choice


def constant_harms(ctx: Context, format: Format) -> dict[Value, str]:
    """For the constants of float32 that must not be rounded: why."""
    finder, found = Finder(ctx.model), {}
    for graph in ctx.model.graph.walk_graphs():
        for value in graph.values():
            tensor = value.const
            if tensor is None or tensor.dtype != FLOAT or value.is_dead:
                continue
            if isinstance(tensor, SparseTensor):
                found[value] = "is stored sparse"
                continue
            toll = Toll(format)
            toll.update(tensor.numpy())
            if toll.overflowed == toll.count and all(_is_limit(use) for use in value.uses):
                continue  # no limit before, none after
            problem = harm(toll, value, finder.readers(value, tensor))
            if problem is not None:
                found[value] = f"cannot be rounded ({problem.hint})"
    return found


def unfit_for_onnxruntime(node: Node) -> str:
    """Why onnxruntime 1.32 does not run `node` in 16 bits on a CPU though no schema forbids it; empty if it does.

    Its MatmulTransposeFusion swaps a Transpose and the Cast in front of a MatMul, and ends the process at load where
    the first axis becomes one of the last two and all others keep their order.
    """
    if node.is_op("ScatterElements", "ScatterND") and node.attr("reduction", "none") != "none":
        return "onnxruntime combines what it scatters in float32 alone"
    perm = list(node.attr("perm", ())) if node.is_op("Transpose") else []
    others = list(range(1, len(perm)))
    if len(perm) < 3 or perm not in ([*others[:-1], 0, others[-1]], [*others, 0]):
        return ""
    return "onnxruntime would end the process: it moves the first axis for a MatMul" if _is_multiplied(node) else ""


def _is_multiplied(node: Node) -> bool:
    """Whether a MatMul reads what `node` makes, if need be through Identity and Cast."""
    users = [use.user for use in node.outputs[0].uses if isinstance(use.user, Node)]
    return any(user.is_op("MatMul") or (user.is_op("Identity", "Cast") and _is_multiplied(user)) for user in users)


def _is_limit(use: Use) -> bool:
    return isinstance(use.user, Node) and use.user.is_op("Clip") and use.slot > 0


@dataclass
class _Chooser:
    ctx: Context
    format: Format
    observed: Observed
    exclude: Sequence[str]
    harms: Mapping[Value, str]
    choice: Choice = field(default_factory=Choice)
    delicate: set[Value] = field(default_factory=set)
    counts: set[Value] = field(default_factory=set)
    """Of what is delicate, what was made of integers alone."""

    def __post_init__(self) -> None:
        self.dtype = self.ctx.shapes().dtype

    def walk(self, graph: Graph) -> None:
        """Decide for the nodes of a graph in order: what they read is decided."""
        for node in graph.nodes:
            if node.is_op("If", "Loop", "Scan"):
                self.bodies(node)
            if node.is_op("If"):
                self.join(node)
            elif node.constant is None:
                self.decide(node, graph.opset.get("", 0))

    def bodies(self, node: Node) -> None:
        """What is delicate goes into bodies and out of them."""
        for body in node.bodies:
            if any(value in self.delicate for value in node.inputs):
                self.delicate.update(body.inputs)
            self.walk(body)
            if any(value in self.delicate for value in body.outputs):
                self.delicate.update(node.outputs)

    def join(self, node: Node) -> None:
        """An output of an If has 16 bits if all branches compute it so, or hold it as a constant."""
        if not self.ctx.selects(node):
            return
        for slot, value in enumerate(node.outputs):
            results = [body.outputs[slot] for body in node.bodies]
            fits = value.name and self.dtype(value) == FLOAT and not self.observed.harm(value)
            if fits and all(result in self.choice.narrow or self.is_plain(result) for result in results):
                self.choice.narrow.add(value)

    def is_plain(self, value: Value) -> bool:
        """Whether it is a constant that can be rounded."""
        return value.const is not None and value.const.dtype == FLOAT and value not in self.harms

    def decide(self, node: Node, opset: int) -> None:
        reason = self.is_delicate(node)
        slots = slots_of(node, opset, self.format, self.dtype)
        if isinstance(slots, str):
            if any(self.dtype(value) == FLOAT for value in node.outputs if value.name):
                self.choice.refused.append((node, slots))
            return
        self.choice.slots[node] = slots
        outputs = [node.outputs[slot] for slot in slots.outputs]
        if not outputs:
            return
        reason = reason or unfit_for_onnxruntime(node) or self.is_out_of_range(node, slots) or self.is_excluded(node)
        if reason:
            self.choice.refused.append((node, reason))
        elif self.gains(node, slots):
            self.choice.halves[node] = slots
            self.choice.narrow.update(outputs)

    def is_count(self, node: Node, reads: Sequence[Value]) -> bool:
        """Whether it makes floats of integers that may be sizes or positions, or of such floats alone."""
        if node.is_op("Cast", "CastLike"):
            return self.dtype(node.outputs[0]) == FLOAT and self.dtype(reads[0]) in INTEGERS
        computed = [value for value in reads if value.const is None and self.dtype(value) == FLOAT]
        return node.is_op("Range") or (
            bool(computed) and node.is_op(*COUNTING) and all(value in self.counts for value in computed)
        )

    def is_delicate(self, node: Node) -> str:
        """Why it must not compute in 16 bits, nor what follows, unless it ends that; empty if it may."""
        reads = [value for value in node.inputs if value is not None]
        if self.is_count(node, reads):
            self.counts.update(node.outputs)
            self.delicate.update(node.outputs)
            return "it counts something"
        delicate = next((value for value in reads if value in self.delicate), None)
        harmed = next((value for value in reads if value in self.harms), None)
        if delicate is not None:
            reason = f"it reads {delicate.name!r}, which must be exact"
        elif harmed is not None:
            reason = f"{harmed.name!r} {self.harms[harmed]}"
        else:
            return ""
        if node.is_op(*PASSING):
            self.delicate.update(node.outputs)
        return reason

    def is_out_of_range(self, node: Node, slots: Slots) -> str:
        for value in (*(node.inputs[slot] for slot in slots.inputs), *(node.outputs[slot] for slot in slots.outputs)):
            problem = "" if value is None or value.const is not None else self.observed.harm(value)
            if problem and value is not None:
                return f"{value.name!r} {problem}"
        return ""

    def is_excluded(self, node: Node) -> str:
        if not self.ctx.selects(node):
            return "the pass may not act there"
        if any(value is not None and value.pinned for value in (*node.inputs, *node.outputs)):
            return "training information names what it reads or computes"
        constants = [value.name for value in node.inputs if value is not None and value.const is not None]
        names = [node.label, *(value.name for value in node.outputs), *constants]
        pattern = next((p for p in self.exclude if any(fnmatchcase(name, p) for name in names)), None)
        if pattern is None:
            return ""
        self.choice.excluding.add(pattern)
        return f"exclude has {pattern!r}"

    def gains(self, node: Node, slots: Slots) -> bool:
        """Whether it computes, or hands on what has 16 bits anyhow."""
        reads = [value for slot in slots.inputs if (value := node.inputs[slot]) is not None]
        return not node.is_op(*ROUNDING_NOTHING) or all(v in self.choice.narrow or self.is_plain(v) for v in reads)
