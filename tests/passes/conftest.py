"""Models in onnx's text form with weights put into them, what they give, and what onnxruntime makes of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import GraphProto, ModelProto, helper, numpy_helper, parser

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import lower

Array = np.ndarray[Any, np.dtype[Any]]


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_graphs(attribute.g)


def put(model: ModelProto, as_constants: bool, weights: dict[str, Array]) -> None:
    """Add weights to the main graph: as initializers, or as Constant nodes at its start."""
    for name, array in reversed(weights.items()):
        tensor = numpy_helper.from_array(array, name)
        if as_constants:
            model.graph.node.insert(0, helper.make_node("Constant", [], [name], value=tensor))
        else:
            model.graph.initializer.insert(0, tensor)


@pytest.fixture(scope="session")
def model() -> Callable[..., ModelProto]:
    """`model(text, as_constants=False, **weights)`; without a header the text is of opset 17."""

    def build(text: str, *, opset: int = 17, ir: int = 8, as_constants: bool = False, **weights: Array) -> ModelProto:
        header = f'<ir_version: {ir}, opset_import: ["" : {opset}, "f" : 1]>'
        made = parser.parse_model(header + text)
        put(made, as_constants, weights)
        return made

    return build


@pytest.fixture(scope="session")
def run_model() -> Callable[..., dict[str, Array]]:
    """Outputs by name, in the reference configuration."""

    def run(proto: ModelProto, **feeds: Array) -> dict[str, Array]:
        return OrtBackend().prepare(lower(proto)).run(feeds)

    return run


@pytest.fixture
def optimized(tmp_path: Path) -> Callable[[ModelProto], list[str]]:
    """The operators that onnxruntime is left with, in all graphs, when it has loaded a model."""

    def run(proto: ModelProto) -> list[str]:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        loaded = onnx.load(tmp_path / "optimized.onnx")
        return [node.op_type for graph in all_graphs(loaded.graph) for node in graph.node]

    return run
