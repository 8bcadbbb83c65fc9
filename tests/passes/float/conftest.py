"""Models in onnx's text form with constants put into them, and the pass run over them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import GraphProto, ModelProto, NodeProto, checker, helper, numpy_helper, parser

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower, verify
from onnxpress.passes.float.float import Float
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report

Array = np.ndarray[Any, np.dtype[Any]]


class Rounded(NamedTuple):
    model: ModelProto
    report: Report


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of a graph and of the bodies in it, each before what is inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


@pytest.fixture(scope="session")
def model() -> Callable[..., ModelProto]:
    """`model(text, as_constants=False, **constants)`; without a header the text is of opset 17."""

    def build(text: str, *, opset: int = 17, ir: int = 8, as_constants: bool = False, **constants: Array) -> ModelProto:
        made = parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}, "f" : 1]>' + text)
        for name, array in reversed(constants.items()):
            tensor = numpy_helper.from_array(array, name)
            if as_constants:
                made.graph.node.insert(0, helper.make_node("Constant", [], [name], value=tensor))
            else:
                made.graph.initializer.insert(0, tensor)
        return made

    return build


@pytest.fixture(scope="session")
def to_half() -> Callable[..., Rounded]:
    """Run the pass with options; the result is verified, and checked in full unless told otherwise."""

    def run(proto: ModelProto, *, data: Any = None, full_check: bool | None = True, **options: Any) -> Rounded:
        lowered = lower(proto)
        report = PassManager([Float(**options)], backend=OrtBackend()).run(lowered, data=data)
        verify(lowered)
        made = emit(lowered)
        if full_check is not None:
            checker.check_model(made, full_check=full_check)
        return Rounded(made, report)

    return run


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
        return [node.op_type for node in all_nodes(onnx.load(tmp_path / "optimized.onnx").graph)]

    return run


def lines(graph: GraphProto) -> Iterator[str]:
    """The nodes as `y = Op<attribute = value>(x)`, then the constants as `name: type[shape]`."""
    for node in graph.node:
        attributes = [
            f"{a.name} = {helper.get_attribute_value(a)}" for a in node.attribute if a.type != onnx.AttributeProto.GRAPH
        ]
        shown = f"<{', '.join(attributes)}>" if attributes else ""
        yield f"{', '.join(node.output)} = {node.op_type}{shown}({', '.join(node.input)})"
    for tensor in graph.initializer:
        yield f"{tensor.name}: {onnx.TensorProto.DataType.Name(tensor.data_type).lower()}{list(tensor.dims)}"


@pytest.fixture(scope="session")
def reads() -> Callable[[GraphProto, str], bool]:
    """Whether a graph reads as a text says, line by line."""

    def same(graph: GraphProto, expected: str) -> bool:
        wanted = [line.strip() for line in expected.strip().splitlines()]
        found = list(lines(graph))
        assert found == wanted
        return True

    return same
