"""Which constants are stored in 16 bits, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnx import NodeProto, TensorProto, helper

from ...ir import Graph, Node, SparseTensor, Tensor, Value
from ...ir.dtypes import bits_of
from ...ir.proto.size import constant_size, initializer_size, node_size
from ..manager.weights import Reason
from ..quantize.plan import Refusal
from ..quantize.roles import Form
from ..quantize.sites import Finder, Readers, Site, scales_levels
from .formats import Format, Toll

WIDE = (int(TensorProto.FLOAT), int(TensorProto.DOUBLE))
"""The element types that are made narrower."""
HINT = "h"
LONG_NAME = "h_000000"
"""No new value of the pass has a longer name."""


@dataclass(frozen=True)
class Plan:
    """A constant to be stored in 16 bits.

    `rows` are the readers that gather before they cast; `opset` is the lowest that has the nodes, `saved` at least so
    many bytes in the file.
    """

    graph: Graph
    value: Value
    tensor: Tensor
    readers: Readers
    toll: Toll
    rows: tuple[Site, ...]
    opset: int
    saved: int

    @property
    def is_read_whole(self) -> bool:
        """Whether anybody reads more than rows."""
        return len(self.rows) < len(self.value.uses)


@dataclass(frozen=True)
class Planner:
    """Decides for the constants of one model."""

    finder: Finder
    format: Format
    min_bytes: int = 0
    exclude: Sequence[str] = ()
    selects: Callable[[Node], bool] = lambda node: True
    """Which readers are meant."""

    def decide(self, graph: Graph, value: Value, tensor: Tensor) -> Plan | Refusal:
        """A plan for the constant `tensor`, which `value` holds in `graph`, or why there is none."""
        if tensor.dtype not in WIDE:
            return Refusal(Reason.NO_GAIN if 0 < bits_of(tensor.dtype) <= 16 else Reason.NOT_FLOAT, False)
        if value.is_dead:
            return Refusal(Reason.DEAD, False)
        return self._unfit(value, tensor) or self._plan(graph, value, tensor)

    def _unfit(self, value: Value, tensor: Tensor) -> Refusal | None:
        if value.pinned:
            return Refusal(Reason.PINNED)
        if value.is_input:
            return Refusal(Reason.OVERRIDABLE, hint="run freeze-defaults first")
        if isinstance(tensor, SparseTensor):
            return Refusal(Reason.SPARSE)
        users = [use.user for use in value.uses if isinstance(use.user, Node)]
        left_out = next((node for node in users if not self.selects(node)), None)
        if left_out is not None:
            return Refusal(Reason.EXCLUDED, hint=f"{left_out.label} reads it, where the pass may not act")
        names = [value.name, *(node.label for node in users)]
        patterns = tuple(p for p in self.exclude if any(fnmatchcase(name, p) for name in names))
        if patterns:
            return Refusal(Reason.EXCLUDED, hint=f"exclude has {patterns[0]!r}", patterns=patterns)
        if tensor.nbytes < self.min_bytes:
            return Refusal(Reason.EXCLUDED, hint=f"min-bytes is {self.min_bytes}")
        if any(isinstance(use.user, Node) and scales_levels(use.user, use.slot) for use in value.uses):
            return Refusal(Reason.NOT_A_WEIGHT, hint="it is the scale of quantized numbers")
        return None

    def _plan(self, graph: Graph, value: Value, tensor: Tensor) -> Plan | Refusal:
        if tensor.size == 0:
            return Refusal(Reason.NO_GAIN)
        readers = self.finder.readers(value, tensor)
        rows = tuple(site for site in readers.sites if site.is_table)
        saved = self._saved(graph, value, tensor, rows)
        if saved <= 0:
            return Refusal(Reason.NO_GAIN)
        toll = Toll(self.format)
        toll.update(tensor.numpy())
        return harm(toll, value, readers) or Plan(graph, value, tensor, readers, toll, rows, self.format.opset, saved)

    def _saved(self, graph: Graph, value: Value, tensor: Tensor, rows: Sequence[Site]) -> int:
        """The file gets smaller by at least so many bytes."""
        held = initializer_size(tensor, value.name) if value.producer is None else node_size(value.producer)
        made = constant_size(self.format.dtype, tensor.shape, LONG_NAME, graph, as_node=graph.is_function)
        whole = len(rows) < len(value.uses)
        casts = [value.name] * whole + [site.node.outputs[0].name for site in rows]
        frames = 3 * graph.depth  # the lengths of the messages around a node in a body may get longer
        renamed = 2 * len(LONG_NAME) * len(rows)
        return held - made - renamed - sum(_cast_size(name) + frames for name in casts)


def _cast_size(name: str) -> int:
    """Bytes of a Cast that makes the value `name`."""
    node = NodeProto(op_type="Cast", input=[LONG_NAME], output=[name])
    node.attribute.append(helper.make_attribute("to", WIDE[0]))
    return int(node.ByteSize()) + 3


SCALES_AND_SHIFTS: dict[str, tuple[int, ...]] = {
    "Conv": (2,),
    "ConvTranspose": (2,),
    "Gemm": (2,),
    "LSTM": (3,),
    "GRU": (3,),
    "RNN": (3,),
    "LayerNormalization": (1, 2),
    "BatchNormalization": (1, 2, 3),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
}
"""Inputs of layers that are no weights, and that nobody divides by."""


def harm(toll: Toll, value: Value, readers: Readers) -> Refusal | None:
    """Why the constant `value` must not be rounded; None if it may be.

    Where layers alone read it, single numbers may become 0: that is an error like any other. Anybody else may divide
    by them, or use them to count.
    """
    largest, count = toll.format.largest, toll.count
    if toll.overflowed:
        hint = f"{toll.overflowed} of {count} numbers are beyond {largest:g}, the largest of {toll.format.name}"
        return Refusal(Reason.OUT_OF_RANGE, hint=hint)
    if toll.is_coarse:
        hint = f"its numbers are too small: {toll.vanished} of {count} would be 0 in {toll.format.name}"
        return Refusal(Reason.OUT_OF_RANGE, hint=hint)
    others = [user for user in readers.others if not _is_scale_or_shift(user, value)]
    if toll.vanished and (others or readers.computed):
        hint = f"{toll.vanished} of {count} numbers would be 0 in {toll.format.name}, and somebody may divide by them"
        return Refusal(Reason.OUT_OF_RANGE, hint=hint)
    is_weight = not readers.others and not any(site.role.form is Form.TABLE for site in readers.sites)
    if toll.is_chosen and toll.changed and not is_weight:
        hint = f"{toll.changed} of {toll.count} numbers are no longer what they count in {toll.format.name}"
        return Refusal(Reason.INEXACT, hint=hint)
    return None


def _is_scale_or_shift(user: Node | Graph, value: Value) -> bool:
    """Whether a layer reads the constant, and none of its inputs that it may divide by is the constant."""
    if isinstance(user, Graph) or user.domain:
        return False
    slots = [slot for slot, read in enumerate(user.inputs) if read is value]
    return bool(slots) and all(slot in SCALES_AND_SHIFTS.get(user.op_type, ()) for slot in slots)
