"""A command line to call, and small models and data to call it with."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.cli.main import main
from onnxpress.ir import tensor
from onnxpress.passes.manager import registry as registry_module
from onnxpress.passes.manager import text as text_module
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.options import option


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Call the command line in this process; what the process says at any level is in the result."""

    def call(*args: object) -> Result:
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        return Result(code, *capfd.readouterr())

    return call


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def small_model(scale: float = 1.0, *, opset: int = 17) -> onnx.ModelProto:
    """y = x (2 W) + b: a weight of 8 kB, something to fold, and something dead."""
    nodes = [
        helper.make_node("Mul", ["w", "two"], ["w2"], name="double"),
        helper.make_node("MatMul", ["x", "w2"], ["xw"], name="product"),
        helper.make_node("Neg", ["xw"], ["unused"], name="dead"),
        helper.make_node("Add", ["xw", "b"], ["y"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [
            numpy_helper.from_array(weights(64, 32) * np.float32(scale), "w"),
            numpy_helper.from_array(np.float32(2), "two"),
            numpy_helper.from_array(weights(32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    onnx.save(small_model(), path)
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """As `model`, its outputs a few percent larger."""
    path = tmp_path / "other.onnx"
    onnx.save(small_model(1.03), path)
    return path


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """As `model`, with the weight in the file small.data beside it."""
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save_model(
        small_model(), folder / "small.onnx", save_as_external_data=True, location="small.data", size_threshold=1000
    )
    return folder / "small.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three samples for `model`."""
    path = tmp_path / "samples.npz"
    np.savez(path, x=weights(3, 64))
    return path


@dataclass(frozen=True)
class Spoil(Pass):
    """Do what no pass should."""

    name: ClassVar[str] = "spoil"
    effect: ClassVar[Effect] = Effect.LEARNED
    how: Literal["nan", "fail", "interrupt"] = option("nan", "the harm to do")

    def run(self, graph, ctx):
        if self.how == "fail":
            raise KeyError("lost")
        if self.how == "interrupt":
            raise KeyboardInterrupt
        weight = next(value for value in graph.initializers if value.name == "w")
        ctx.rewriter.replace_by_constant(weight, tensor(np.full((64, 32), np.nan, np.float32)))


@pytest.fixture
def spoiling(monkeypatch: pytest.MonkeyPatch) -> type[Spoil]:
    """The pass `spoil` is known, beside `fold`."""
    registry = registry_module.Registry([EntryPoint("fold", "onnxpress.passes.graph.fold:Fold", registry_module.GROUP)])
    registry.register(Spoil)
    monkeypatch.setattr(text_module, "default_registry", lambda: registry)
    return Spoil
