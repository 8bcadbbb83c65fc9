"""Broken plugins are named, with their distribution, in one line, and leave the tool and other passes working."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

CALL = "from onnxpress.cli.main import main; raise SystemExit(main())"
HEAD = """
from dataclasses import dataclass
from typing import ClassVar
import onnxpress as op

@dataclass(frozen=True)
class Broken(op.Pass):
    '''Break something.'''
    name: ClassVar[str] = "broken"
    effect: ClassVar[op.Effect] = op.Effect.LEARNED
    def run(self, graph, ctx):
"""

UNUSABLE = {
    "import no_such_module": "No module named 'no_such_module'",
    "def broken(:": "invalid syntax",
    "import sys; sys.exit(4)": "cannot be used",
    "raise RuntimeError('not today')": "not today",
    "Broken = 3": "is not a subclass of Pass",
    "def Broken(): pass": "is not a subclass of Pass",
    "import onnxpress as op\nclass Broken(op.Pass):\n    name = 'broken'": "is not a dataclass",
    HEAD.replace('"broken"', '"other"') + "        pass": "the class calls itself 'other'",
    HEAD.replace("    def run", "    x: object = op.option(None, 'x')\n    def run") + "        pass": "cannot be used",
}

FAILING = {
    "raise KeyError('lost')": "KeyError: 'lost'",
    "return graph.no_such_thing": "no_such_thing",
    "return self.run(graph, ctx)": "RecursionError",
    "next(graph.nodes).op_type = 'Neg'": "was changed past the rewriter",
    "next(graph.nodes)._inputs.clear()": "past the rewriter",
    "ctx.rewriter.rename(graph.outputs[0], 'z')": "inputs or outputs of the model changed",
    "ctx.rewriter.erase(next(graph.nodes))": "is still used",
    "while True: ctx.rewriter.set_attribute(next(graph.nodes), 'axis', 1)": "edits and does not stop",
    "while True: pass": "no sign of life for 0.5 s",
}


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line where the distribution `broken-plugin` is installed; the code of its module comes first."""
    graph = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["y"], name="abs")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")

    def run(code: str, *args: str, name: str = "broken") -> subprocess.CompletedProcess[str]:
        site = tmp_path / "site"
        info = site / "broken_plugin-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (site / "broken_module.py").write_text(code)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[onnxpress.passes]\n{name} = broken_module:Broken\n")
        env = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-P", "-c", CALL, *args]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(("code", "words"), UNUSABLE.items(), ids=range(len(UNUSABLE)))
def test_what_cannot_be_used_is_named_and_harms_no_other(call, tmp_path, code, words):
    done = call(code, "run", "m.onnx", "-p", "broken", "-o", "out.onnx")
    assert done.returncode == 2
    first = done.stderr.splitlines()[0]
    assert first.startswith("onnxpress: error: pass 'broken' of broken-plugin (broken_module:Broken) cannot be used: ")
    assert words in first
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.onnx").exists()
    listed = call(code, "passes")
    assert listed.returncode == 0
    assert "quantize-insert" in listed.stdout
    assert listed.stderr.count("onnxpress: warning: pass 'broken'") == 1
    assert call(code, "run", "m.onnx", "-p", "fold,dce", "--quiet").returncode == 0


@pytest.mark.parametrize(("code", "words"), FAILING.items(), ids=range(len(FAILING)))
def test_a_pass_that_fails_is_named_and_leaves_no_file(call, tmp_path, code, words):
    asked = ("run", "m.onnx", "-p", "fold,broken", "-o", "out.onnx", "--pass-timeout", "0.5", "--no-reproducer")
    done = call(f"{HEAD}        {code}", *asked)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("onnxpress: error: pass 'broken' failed: ")
    assert words in done.stderr
    assert "(a pass of broken-plugin 1.0)" in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_a_clash_names_both_owners(call):
    code = f"{HEAD}        pass".replace('"broken"', '"fold"')
    done = call(code, "run", "m.onnx", "-p", "fold", name="fold")
    assert done.returncode == 2
    assert "the pass name 'fold' belongs to " in done.stderr
    assert "onnxpress (onnxpress.passes.graph.fold:Fold)" in done.stderr
    assert "broken-plugin (broken_module:Broken)" in done.stderr
    assert call(code, "run", "m.onnx", "-p", "dce", "--quiet", name="fold").returncode == 0
