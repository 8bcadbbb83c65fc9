"""The pass run over models, and graphs as lines of text."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, checker, helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower, verify
from onnxpress.passes.float.float import Float
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report

Array = np.ndarray[Any, np.dtype[Any]]


class Rounded(NamedTuple):
    model: ModelProto
    report: Report


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
