"""Cutting units equals zeroing them where they are consumed, on generated networks."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, checker, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Graph, emit, lower
from onnxpress.ir.analysis.coupling import Group, couple
from onnxpress.ir.analysis.shapes import infer_shapes
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.prune.channels.cut import cut
from onnxpress.specs.strategies_coupled import Array, convolutional, transformer

CONTRACTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), ((0, 1),)),
    "MatMul": ((0, -1),),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), ((0, 2), (2, 2))),
}
"""The inputs, with their axes, that an operator sums over; states of recurrent layers meet the third input."""
Mode = Literal["channel", "head"]


@dataclass(frozen=True)
class CutChosen(Pass):
    """Cut a drawn choice of the units that are free."""

    name: ClassVar[str] = "cut-chosen"
    effect: ClassVar[Effect] = Effect.LEARNED
    seen: ClassVar[list[tuple[dict[tuple[str, int], Array], int]]] = []

    def run(self, graph: Graph, ctx: Context) -> None:
        mode, seed = CHOICE[-1]
        random = np.random.default_rng(seed)
        groups = [group for group in couple(ctx.model, ctx.shapes(), mode) if len(group.free)]
        gone = [chosen(group, random) for group in groups]
        masks = {
            (axis.value.name, axis.axis): units[group.units[axis]]
            for group, units in zip(groups, gone, strict=True)
            for axis in group.axes
        }
        self.seen.append((masks, int(sum(units.sum() for units in gone))))
        cut(ctx, groups, gone)


CHOICE: list[tuple[Mode, int]] = []


def chosen(group: Group, random: np.random.Generator) -> Array:
    gone = np.zeros(group.count, bool)
    for unit in random.permutation(group.free):
        gone[unit] = random.random() < 0.5
        if not all((~gone[group.units[axis]]).any() for axis in group.axes):
            gone[unit] = False
    return gone


def masked(model: ModelProto, masks: dict[tuple[str, int], Array], ranks: dict[str, int]) -> ModelProto:
    """The model with what is cut set to zero where it is consumed: no knowledge of how axes are coupled but `masks`."""
    made = ModelProto()
    made.CopyFrom(model)
    mask_graph(made.graph, masks, ranks)
    return made


def mask_graph(graph: GraphProto, masks: dict[tuple[str, int], Array], ranks: dict[str, int]) -> None:
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                mask_graph(attribute.g, masks, ranks)
        for slot, axis in CONTRACTS.get(node.op_type, ()):
            source = node.input[slot]
            at = axis % ranks[source]
            gone = masks.get((source, at))
            if gone is not None and gone.any():
                shape = [-1 if place == at else 1 for place in range(ranks[source])]
                keep = numpy_helper.from_array((~gone).astype(np.float32).reshape(shape))
                name = f"{node.output[0]}_{slot}"
                nodes.append(helper.make_node("Constant", [], [f"mask_{name}"], value=keep))
                nodes.append(helper.make_node("Mul", [source, f"mask_{name}"], [f"masked_{name}"]))
                node.input[slot] = f"masked_{name}"
        nodes.append(node)
    made = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(made)


def ranks_of(model: ModelProto) -> dict[str, int]:
    ir = lower(model)
    shapes = infer_shapes(ir)
    return {value.name: len(shapes.shape(value) or ()) for graph in ir.graph.walk_graphs() for value in graph.values()}


def run(model: ModelProto, x: Array) -> Array:
    return np.asarray(OrtBackend().prepare(lower(model)).run({"x": x})["y"])


def hold(model: ModelProto, mode: Mode, seed: int) -> int:
    """Cut, and compare; returns how many units were cut."""
    CHOICE.append((mode, seed))
    ir = lower(model)
    PassManager([CutChosen()], OrtBackend()).run(ir)
    masks, count = CutChosen.seen.pop()
    after = emit(ir)
    checker.check_model(after, full_check=True)
    zeroed = masked(model, masks, ranks_of(model))
    for batch in (1, 3):
        x = np.random.default_rng(seed).standard_normal((batch, 3, 4, 4)).astype(np.float32)
        want, got = run(zeroed, x), run(after, x)
        assert want.shape == got.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * (1 + float(np.abs(want).max())))
    return count


@given(convolutional(), st.integers(0, 99))
def test_cutting_equals_zeroing_in_convolutional_networks(model: ModelProto, seed: int) -> None:
    assume(hold(model, "channel", seed))


@given(transformer(), st.sampled_from(("channel", "head")), st.integers(0, 99))
def test_cutting_equals_zeroing_in_transformers(model: ModelProto, mode: Mode, seed: int) -> None:
    assume(hold(model, mode, seed))
