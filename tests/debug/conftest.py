"""The command line with harmful passes, and models to run them on."""

from __future__ import annotations

import os
import subprocess
import sys
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

from .harmful import CrashAtSin, Harm, Spoil


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
    registry.register(Spoil)
    monkeypatch.setattr(text_module, "default_registry", lambda: registry)

    def call(*args: object) -> Result:
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        return Result(code, *capfd.readouterr())

    return call


CALL = "from onnxpress.cli.main import main; raise SystemExit(main())"


def installed(folder: Path) -> Path:
    """A folder for PYTHONPATH with a distribution `harmful` of the harmful passes."""
    info = folder / "harmful-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "harmful.py").write_text(Path(__file__).with_name("harmful.py").read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harmful\nVersion: 1.0\n")
    entries = "crash-at-sin = harmful:CrashAtSin\nspoil = harmful:Spoil\n"
    (info / "entry_points.txt").write_text(f"[onnxpress.passes]\n{entries}")
    return folder


def call_with(path: Path | None, *args: object) -> tuple[int, str]:
    """Call the command line in a process of its own that has `path` to import from, and not this process's passes."""
    command = [sys.executable, "-P", "-c", CALL, *map(str, args)]
    modules = os.pathsep.join(filter(None, [str(path) if path else "", os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": modules}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


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
