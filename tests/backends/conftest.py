"""Small models with everything that a file can hold, and real ones where the environment names a folder of them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxpress.cli.demo

FLOAT = TensorProto.FLOAT
DEMO = Path(onnxpress.cli.demo.__file__).parent / "digits.onnx"


def real_models() -> list[Path]:
    """The demo network, and those in the folder ONNXPRESS_ZOO."""
    zoo = os.environ.get("ONNXPRESS_ZOO")
    return [DEMO, *(sorted(Path(zoo).rglob("*.onnx")) if zoo else ())]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "real" in metafunc.fixturenames:
        metafunc.parametrize("real", real_models(), ids=lambda path: f"{path.parent.name}/{path.name}")


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), name)


def ports(*names: str, shape: tuple[object, ...] | None = ("n", 400)) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, FLOAT, shape) for name in names]


def weights_everywhere() -> onnx.ModelProto:
    """Weights of 1.6 kB in the main graph, a Constant node, both branches of an If, and two functions, one of which
    calls the other; in every addition one of them. Feed it x: float [n, 400]; all outputs are sums."""
    inner = [
        helper.make_node("Constant", [], ["fw"], value=weight("", 400, seed=3)),
        helper.make_node("Add", ["a", "fw"], ["b"]),
    ]
    outer = [helper.make_node("Shift", ["a"], ["s"], domain="own"), helper.make_node("Neg", ["s"], ["b"])]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function("own", "Shift", ["a"], ["b"], inner, imports),
        helper.make_function("own", "Turn", ["a"], ["b"], outer, imports),
    ]
    then = helper.make_graph(
        [helper.make_node("Add", ["sum", "w"], ["t"])], "then", [], ports("t", shape=None), [weight("w", 400, seed=4)]
    )
    other = helper.make_graph(
        [
            helper.make_node("Constant", [], ["w"], value=weight("", 400, seed=5)),
            helper.make_node("Sub", ["sum", "w"], ["e"]),
        ],
        "else",
        [],
        [*ports("e", shape=None)],
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=weight("", 400, seed=1)),
        helper.make_node("Add", ["x", "main"], ["xm"]),
        helper.make_node("Add", ["xm", "c"], ["sum"]),
        helper.make_node("If", ["which"], ["branch"], then_branch=then, else_branch=other, name="if"),
        helper.make_node("Turn", ["branch"], ["turned"], domain="own"),
        helper.make_node("Shift", ["turned"], ["y"], domain="own"),
    ]
    graph = helper.make_graph(
        nodes,
        "everywhere",
        [*ports("x"), helper.make_tensor_value_info("which", TensorProto.BOOL, [])],
        ports("y", shape=None),
        [weight("main", 400, seed=2)],
    )
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=9)


@pytest.fixture
def everywhere() -> onnx.ModelProto:
    return weights_everywhere()


@pytest.fixture
def external(tmp_path: Path) -> Callable[..., Path]:
    """Write a model y = x + first + second whose weights of 16 kB lie in `w.bin`, in a folder of its own."""

    def make(folder: str = "source", location: str = "w.bin", length: int | None = None) -> Path:
        place = tmp_path / folder
        place.mkdir()
        tensors = [weight("first", 4000, seed=1), weight("second", 4000, seed=2)]
        data = b"\1" * 16 + tensors[0].raw_data + b"\2" * 48 + tensors[1].raw_data + b"\3" * 5
        (place / "w.bin").write_bytes(data if length is None else data[:length])
        for tensor, offset in zip(tensors, (16, 16064), strict=True):
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", str(offset)), ("length", "16000")):
                tensor.external_data.add(key=key, value=value)
        nodes = [helper.make_node("Add", ["x", "first"], ["s"]), helper.make_node("Add", ["s", "second"], ["y"])]
        graph = helper.make_graph(nodes, "external", ports("x", shape=("n", 4000)), ports("y", shape=None), tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (place / "m.onnx").write_bytes(model.SerializeToString())
        return place / "m.onnx"

    return make
