"""The command line with harmful passes, and models to run them on."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.cli.main import main
from onnxpress.passes.manager import registry as registry_module
from onnxpress.passes.manager import text as text_module

from .harmful import CrashAtSin, Harm


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Call the command line in this process, where the harmful passes are registered."""
    built_in = [
        EntryPoint("fold", "onnxpress.passes.graph.fold:Fold", registry_module.GROUP),
        EntryPoint("dce", "onnxpress.passes.graph.dce:Dce", registry_module.GROUP),
        EntryPoint("guard", "onnxpress.passes.combinators.guard:Guard", registry_module.GROUP),
        EntryPoint("repeat", "onnxpress.passes.combinators.repeat:Repeat", registry_module.GROUP),
    ]
    registry = registry_module.Registry(built_in)
    registry.register(Harm)
    registry.register(CrashAtSin)
    monkeypatch.setattr(text_module, "default_registry", lambda: registry)

    def call(*args: object) -> Result:
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        return Result(code, *capfd.readouterr())

    return call


def write(path: Path, nodes: list[onnx.NodeProto], last: str, weights: list[onnx.TensorProto]) -> Path:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 16])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [2, 16])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def scales(tmp_path: Path) -> Path:
    """Twelve nodes `scale0`, ... that multiply by weights, each followed by an Abs."""
    nodes, weights, here = [], [], "x"
    for index in range(12):
        nodes.append(helper.make_node("Mul", [here, f"w{index}"], [f"v{index}"], name=f"scale{index}"))
        nodes.append(helper.make_node("Abs", [f"v{index}"], [f"a{index}"], name=f"abs{index}"))
        values = np.random.default_rng(index).uniform(0.9, 1.1, 16).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{index}"))
        here = f"a{index}"
    return write(tmp_path / "scales.onnx", nodes, here, weights)


@pytest.fixture
def long_chain(tmp_path: Path) -> Path:
    """500 nodes, of which one is a Sin that reads an Exp."""
    kinds = ["Tanh", "Sin", "Abs", "Neg", "Sigmoid"] * 100
    kinds[339:341] = ["Exp", "Sin"]
    nodes, here = [], "x"
    for index, kind in enumerate(kinds):
        nodes.append(helper.make_node(kind, [here], [f"v{index}"], name=f"node{index}"))
        here = f"v{index}"
    return write(tmp_path / "long.onnx", nodes, here, [])
