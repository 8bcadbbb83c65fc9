"""`simplify` on deep chains and many constants that look alike: twice the nodes take about twice the operations.

Counted are calls of Python functions, not seconds.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxpress.ir import Model, lower
from onnxpress.passes.graph import content
from onnxpress.passes.manager.manager import PassManager

WIDTH = 8
Step = Callable[[int, str, str], NodeProto]


def node(op_type: str, *reads: str, **attributes: Any) -> Step:
    """A step that reads the one before it, then constants whose names may hold its number or whether it is odd."""
    return lambda i, a, b: helper.make_node(op_type, [a, *(r.format(i=i, odd=i % 2) for r in reads)], [b], **attributes)


STEPS: dict[str, Step] = {
    "transposes": node("Transpose", perm=[1, 0]),
    "reshapes": node("Reshape", "to{odd}"),
    "relus": node("Relu"),
    "additions": node("Add", "c{i}"),
    "additions of x": node("Add", "x"),
    "concats": node("Concat", "x", axis=1),
    "slices": node("Slice", "start", "end", "axis{odd}"),
    "casts": lambda i, a, b: helper.make_node("Cast", [a], [b], to=(TensorProto.DOUBLE, TensorProto.FLOAT)[i % 2]),
}


def chain(step: Step, count: int) -> ModelProto:
    """A chain of `count` steps."""
    names = ["x", *(f"h{i}" for i in range(count))]
    nodes = [step(i, *pair) for i, pair in enumerate(itertools.pairwise(names))]
    read = {name for one in nodes for name in one.input}
    numbers = {"start": 0, "end": 1 << 30, "axis0": 0, "axis1": 1}
    constants = {name: np.array([n], np.int64) for name, n in numbers.items()}
    constants |= {f"to{odd}": np.array([-1, WIDTH >> odd], np.int64) for odd in range(2)}
    constants |= {f"c{i}": np.full(WIDTH, i, np.float32) for i in range(count)}
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items() if name in read]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])
    y = helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def calls(pipeline: str, model: Model) -> int:
    """How many calls of functions, Python's own included, a pipeline takes."""
    count = 0

    def tell(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    manager = PassManager(pipeline)
    before = sys.getprofile()
    sys.setprofile(tell)
    try:
        manager.run(model)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", STEPS)
def test_chains_take_linear_time(name: str) -> None:
    few, many = (lower(chain(STEPS[name], count)) for count in (128, 512))
    calls("simplify", lower(chain(STEPS[name], 8)))  # imports what is needed
    assert calls("simplify", many) < 5 * calls("simplify", few)


def alike(count: int) -> Model:
    """MatMuls by weights of 4 kB that are zero but for one element, no two the same."""
    weights = []
    for i in range(count):
        weight = np.zeros((32, 32), np.float32)
        weight[i % 32, 1 + i // 32] = 1
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
    nodes = [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(count)]
    infos = [helper.make_tensor_value_info(f"h{i}", TensorProto.FLOAT, ["n", 32]) for i in (0, count)]
    return lower(helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:], weights), ir_version=8))


def test_constants_that_look_alike_are_read_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    checksum = content._checksum
    monkeypatch.setattr(content, "_checksum", lambda tensor: read.append(tensor) or checksum(tensor))
    model = alike(300)
    PassManager("dedupe").run(model)
    assert len(read) == len(set(read)) == 300 == len(model.graph.initializers)
