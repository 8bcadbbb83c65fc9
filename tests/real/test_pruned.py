"""Channels of real models disappear: the result runs at all sizes that the original runs at, with fewer weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx
import pytest

import onnxpress
from onnxpress.ir import Model, Node, Value

LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN")
FOLD = "fold"
CUT = "prune{unit=channel sparsity=0.3}"


def weights(model: Model) -> dict[str, int]:
    """Elements of the weights of every layer that has some, by the name of its output."""
    found = {}
    for graph in model.graph.walk_graphs():
        for node in graph.nodes:
            size = sum(held.size for held in held_by(node))
            if size:
                found[node.outputs[0].name] = size
    return found


def held_by(node: Node) -> Iterator[Any]:
    for value in node.inputs if node.op_type in LAYERS else ():
        if value is not None and value.const is not None and len(value.const.shape) > 1:
            yield value.const


def last_layers(model: Model) -> set[str]:
    """The layers between which and an output of the model there is no other: their outputs must keep their widths."""
    found: set[str] = set()
    seen: set[Node] = set()
    todo: list[Value] = list(model.graph.outputs)
    while todo:
        node = todo.pop().producer
        if node is None or node in seen:
            continue
        seen.add(node)
        if any(held_by(node)):
            found.add(node.outputs[0].name)
            continue
        todo += [value for value in node.inputs if value is not None]
        todo += [value for body in node.bodies for value in body.outputs]
    return found


def test_weights_disappear_and_every_size_still_runs(real_model: Any, compressed_by: Callable[[str], Any]) -> None:
    folded, cut = compressed_by(FOLD), compressed_by(CUT)
    onnx.checker.check_model(cut.after, full_check=True)
    before, after = onnxpress.load(folded.after), onnxpress.load(cut.after)
    counted = weights(before).keys() - last_layers(before)
    if not counted:
        pytest.skip("no layer is followed by another one: nothing may be cut")
    old, new = (sum(size for name, size in weights(m).items() if name in counted) for m in (before, after))
    assert new <= 0.75 * old
    assert cut.report.after.cost.parameters < cut.report.before.cost.parameters
    found = onnxpress.compare(folded.after, cut.after)
    assert not found.mismatches
    assert found.checked
