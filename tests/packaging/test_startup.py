"""What is imported when: the command line answers quickly because heavy modules load when first needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

import onnxpress

HEAVY = {"onnx", "onnxruntime", "numpy", "networkx", "rich", "ml_dtypes", "google", "hypothesis"}
LIGHT_MODULES = [
    "onnxpress",
    "onnxpress.errors",
    "onnxpress.passes.manager.base",
    "onnxpress.passes.manager.options",
    "onnxpress.passes.manager.registry",
    "onnxpress.passes.manager.text",
    "onnxpress.cli.main",
]
RUN = "from onnxpress.cli.main import main; sys.exit(main())"


def loaded_by(code: str, *arguments: str) -> tuple[str, set[str]]:
    """What a fresh interpreter prints when it runs `code`, and the top-level modules that it has loaded at the end."""
    script = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})), file=sys.stderr))
{code}
"""
    command = [sys.executable, "-P", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    *errors, names = done.stderr.splitlines()
    assert not errors, done.stderr
    return done.stdout, set(json.loads(names))


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_modules_of_the_start_are_light(module: str) -> None:
    _, loaded = loaded_by(f"import {module}")
    assert not loaded & HEAVY


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_answers_need_no_heavy_module(option: str) -> None:
    printed, loaded = loaded_by(RUN, option)
    assert "onnxpress" in printed
    assert not loaded & HEAVY


def test_version_is_the_installed_one() -> None:
    printed, _ = loaded_by(RUN, "--version")
    assert printed == f"onnxpress {onnxpress.__version__}\n"


def test_each_name_of_the_root_is_there() -> None:
    for name in onnxpress.__all__:
        assert getattr(onnxpress, name) is not None


def test_a_name_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = onnxpress.no_such_name


REST = {"scipy", "networkx", "rich", "onnxruntime", "hypothesis"}
"""Top-level packages that a run does without where nothing is to be evaluated."""
RESTED = ("onnx.reference", "_hashlib")


def written_by(folder: Path, *nodes: NodeProto, weights: Sequence[TensorProto] = (), opset: int = 17) -> Path:
    """A model from x to y, both float32 of shape (n, 4)."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def run_on(path: Path, *arguments: str) -> tuple[set[str], set[str]]:
    """What `simplify` loads on a model that is to be written: top-level packages, and which of RESTED."""
    tell = f"atexit.register(lambda: print([n for n in {RESTED!r} if n in sys.modules], file=sys.stdout))\n"
    result = path.with_name("out.onnx")
    call = ("run", str(path), "-p", "simplify", "-o", str(result), "--quiet", *arguments)
    printed, loaded = loaded_by(tell + RUN.replace("main()", "main(sys.argv[1:])"), *call)
    assert onnx.load(result).graph.node
    return loaded, set(ast.literal_eval(printed))


def test_a_run_without_constants_to_evaluate_loads_no_executor(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.full(4, 0.5, np.float32), "half")
    nodes = [
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Mul", ["i", "half"], ["m"]),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    loaded, rested = run_on(written_by(tmp_path, *nodes, weights=[half]), "--no-measure")
    assert not loaded & REST
    assert not rested


def test_a_run_that_moves_elements_and_recognizes_loads_no_executor(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["m"]),
        helper.make_node("Add", ["m", "three"], ["s"]),
        helper.make_node("Clip", ["s", "zero", "six"], ["c"]),
        helper.make_node("Mul", ["m", "c"], ["p"]),
        helper.make_node("Div", ["p", "six"], ["y"]),
    ]
    numbers = {"w": np.ones((4, 4)), "zero": 0, "three": 3, "six": 6}
    weights = [numpy_helper.from_array(np.asarray(held, np.float32), name) for name, held in numbers.items()]
    path = written_by(tmp_path, *nodes, weights=weights, opset=13)
    loaded, rested = run_on(path, "--no-measure")
    assert {node.op_type for node in onnx.load(path.with_name("out.onnx")).graph.node} == {
        "MatMul",
        "HardSigmoid",
        "Mul",
    }
    assert not loaded & REST
    assert not rested


def test_a_run_with_constants_to_evaluate_loads_the_executor_alone(tmp_path: Path) -> None:
    nodes = [helper.make_node("Exp", ["one"], ["e"]), helper.make_node("Add", ["x", "e"], ["y"])]
    one = numpy_helper.from_array(np.ones(4, np.float32), "one")
    loaded, rested = run_on(written_by(tmp_path, *nodes, weights=[one]), "--no-measure")
    assert loaded & REST == {"onnxruntime"}
    assert not rested


def test_a_run_that_measures_loads_the_executor(tmp_path: Path) -> None:
    loaded, _ = run_on(written_by(tmp_path, helper.make_node("Relu", ["x"], ["y"])))
    assert "onnxruntime" in loaded
