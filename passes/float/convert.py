"""Turn the graph itself into 16 bits: weights, values, and the Casts where the two types meet.

The interface keeps its types: inputs are cast at the start, outputs where they are computed. Of a value that is read in
both types there is one Cast, behind the node that computes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import ValueInfoProto

from ...errors import ExecutionError
from ...ir import DerivedTensor, Graph, Node, Tensor, Value, tensor
from ..manager.context import Context
from ..manager.weights import Outcome
from ..quantize.error_bounds import Change, bounds_of
from ..quantize.sites import Finder, Readers
from ..rewriting.layers import put
from .choose import Choice
from .formats import Format
from .signatures import FLOAT
from .store import BY


def convert(ctx: Context, format: Format, choice: Choice) -> str:
    """Carry out a choice. Returns why the executor does not take the result, which is then taken back; else nothing."""
    runs = not _refusal(ctx)
    before = ctx.checkpoint()
    with ctx.rewriter.apply("compute", *choice.halves):
        _Converter(ctx, format, choice).run()
    problem = _refusal(ctx) if runs else ""
    if problem:
        ctx.rollback(before)
    return problem


def _refusal(ctx: Context) -> str:
    """Why the executor does not take the model, in one of its configurations; empty if it does, or if there is none."""
    if ctx.backend is None:
        return ""
    try:
        ctx.backend.prepare(ctx.model)
        ctx.backend.prepare(ctx.model, optimize=True)
    except ExecutionError as error:
        return str(error).splitlines()[0]
    except ValueError:  # it has one configuration and refuses to be asked for another
        return ""
    return ""


@dataclass
class _Converter:
    ctx: Context
    format: Format
    choice: Choice
    casts: dict[tuple[Value, int], Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rw = self.ctx.rewriter
        self.graphs = list(self.ctx.model.graph.walk_graphs())
        self.nodes = [node for graph in self.graphs for node in graph.nodes]
        self.first = {graph: next(graph.nodes, None) for graph in self.graphs}
        self.behind: dict[Node, Node | None] = {}
        for graph in self.graphs:
            nodes = list(graph.nodes)
            self.behind.update(zip(nodes, [*nodes[1:], None], strict=True))

    def run(self) -> None:
        self.constants()
        for node in self.nodes:
            self.inputs(node)
            self.attributes(node)
        for graph in self.graphs:
            self.outputs(graph)
        for value in self.choice.narrow:
            if value.type is not None:
                self.rw.set_info(value, None)

    # ---- constants

    def constants(self) -> None:
        """Round the constants that are read in 16 bits: everybody reads the rounded ones from then on."""
        finder = Finder(self.ctx.model)
        wanted = {}
        for node, slots in self.choice.halves.items():
            for slot in slots.inputs:
                value = node.inputs[slot]
                if value is not None and value.const is not None:
                    wanted[value] = value.const
        for graph in self.graphs:
            for slot, value in enumerate(graph.outputs):
                if value.const is not None and self.is_narrow_output(graph, slot):
                    wanted[value] = value.const
        readers = {value: finder.readers(value, held) for value, held in wanted.items()}
        for value, held in wanted.items():
            self.round(value, held, readers[value])

    def round(self, value: Value, held: Tensor, readers: Readers) -> None:
        format, rank = self.format, len(held.shape)
        made = DerivedTensor(format.name, format.rounded, (held,), format.dtype, held.shape)
        put(self.rw, value, made)
        self.choice.narrow.add(value)
        self.ctx.weights.became(held, [made], Outcome.NARROWED, form=format.name)
        change = Change(BY, value.name, readers, rank, 0, format.error_sums(held.numpy()))
        self.ctx.bounds.extend(bounds_of(change, value, {}))

    # ---- where the types meet

    def inputs(self, node: Node) -> None:
        """Let a node read each of its inputs in the type that it takes."""
        half, slots = self.choice.halves.get(node), self.choice.slots.get(node)
        for slot, value in enumerate(node.inputs):
            if value is None or (slots is not None and slot in slots.free):
                continue
            wants = half is not None and slot in half.inputs
            if wants != (value in self.choice.narrow) and (wants or value in self.choice.narrow):
                self.rw.set_input(node, slot, self.cast(value, self.format.dtype if wants else FLOAT))

    def attributes(self, node: Node) -> None:
        """Types that an attribute says."""
        if node not in self.choice.halves:
            return
        if node.is_op("Cast"):
            self.rw.set_attribute(node, "to", self.format.dtype)
        elif node.is_op("ConstantOfShape"):
            held = node.attr("value")
            number = tensor([0.0], FLOAT) if held is None else held
            self.rw.set_attribute(node, "value", tensor(self.format.rounded(number.numpy())))

    def outputs(self, graph: Graph) -> None:
        """Let a graph give each of its outputs in the type that is declared, or that its If has."""
        for slot, value in enumerate(graph.outputs):
            if value not in self.choice.narrow:
                continue
            if self.is_narrow_output(graph, slot):
                self.rw.set_output_info(graph, slot, self.retyped(graph.output_infos[slot]))
                continue
            wide = self.cast(value, FLOAT)
            self.rw.set_output(graph, slot, wide)
            if graph.owner is not None:
                self.rw.swap_names(value, wide)

    def is_narrow_output(self, graph: Graph, slot: int) -> bool:
        node = graph.parent
        return node is not None and node.is_op("If") and node.outputs[slot] in self.choice.narrow

    def cast(self, value: Value, to: int) -> Value:
        """The value in another type."""
        found = self.casts.get((value, to))
        if found is None:
            graph, node = value.graph, value.producer
            assert graph is not None
            before = self.first[graph] if node is None else self.behind[node]
            made = self.rw.insert("Cast", [value], {"to": to}, before=before, graph=graph, outputs=[value.name])
            found = self.casts[value, to] = made.outputs[0]
        return found

    def retyped(self, info: ValueInfoProto) -> ValueInfoProto:
        """What is declared of an output, with another type."""
        made = ValueInfoProto()
        made.CopyFrom(info)
        if made.type.HasField("tensor_type"):
            made.type.tensor_type.elem_type = self.format.dtype
        return made
