"""Broken plugins are named, with their distribution, in one line, and leave the tool and other passes working."""

from __future__ import annotations

import json
import os
import shutil
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


def with_field(field: str) -> str:
    """The code of the pass with another line in its class."""
    return HEAD.replace("    def run", f"    {field}\n    def run")


MUTE = "class Mute(Exception):\n    def __str__(self): return 1 / 0\n"
"""An exception that cannot be printed."""

UNUSABLE = {
    "import no_such_module": "No module named 'no_such_module'",
    "def broken(:": "invalid syntax",
    "import sys; sys.exit(4)": "cannot be used",
    "raise RuntimeError('not today')": "not today",
    "class Odd(BaseException): pass\nraise Odd('no Exception')": "Odd: no Exception",
    "Broken = 3": "is not a subclass of Pass",
    "def Broken(): pass": "is not a subclass of Pass",
    "import onnxpress as op\nclass Broken(op.Pass):\n    name = 'broken'": "is not a dataclass",
    HEAD.replace('"broken"', '"other"') + "        pass": "the class calls itself 'other'",
    with_field("x: object = op.option(None, 'x')") + "        pass": "cannot be used",
    with_field("x: int = 3") + "        pass": "'x' is not declared with option(...)",
    with_field("x: int = op.option('3', 'x')") + "        pass": "the default of option 'x'",
    with_field("x: Odd = op.option(3, 'x')") + "        pass": "name 'Odd' is not defined",
    f"{MUTE}raise Mute": "Mute: its message cannot be read: ZeroDivisionError",
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
    "raise SystemExit(0)": "SystemExit: 0",
    "import sys; sys.exit('good bye')": "SystemExit: good bye",
    "raise type('Odd', (BaseException,), {})('no Exception')": "Odd: no Exception",
    "raise GeneratorExit": "GeneratorExit",
    "raise ExceptionGroup('many', [ValueError(1), TypeError(2)])": "ExceptionGroup: many (2 sub-exceptions)",
    "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})": "Mute: its message cannot be read",
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


def test_what_nobody_asks_for_is_not_imported(call):
    done = call("import os; os._exit(4)", "run", "m.onnx", "-p", "fold,dce", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("code", "words"), FAILING.items(), ids=range(len(FAILING)))
def test_a_pass_that_fails_is_named_and_leaves_no_file(call, tmp_path, code, words):
    asked = ("run", "m.onnx", "-p", "fold,broken", "-o", "out.onnx", "--pass-timeout", "0.5", "--no-reproducer")
    done = call(f"{HEAD}        {code}", *asked)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("onnxpress: error: pass 'broken' failed: ")
    assert words in done.stderr
    assert "(a pass of broken-plugin 1.0, broken_module:Broken)" in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_a_clash_names_both_owners(call):
    code = f"{HEAD}        pass".replace('"broken"', '"fold"')
    done = call(code, "run", "m.onnx", "-p", "fold", name="fold")
    assert done.returncode == 2
    assert "the pass name 'fold' belongs to " in done.stderr
    assert "onnxpress (onnxpress.passes.graph.fold:Fold)" in done.stderr
    assert "broken-plugin (broken_module:Broken)" in done.stderr
    assert call(code, "run", "m.onnx", "-p", "dce", "--quiet", name="fold").returncode == 0


REFUSING = with_field("def __post_init__(self):\n        {code}") + "        pass"


@pytest.mark.parametrize("code", ["raise TypeError('bad day')", "1 / 0", "raise SystemExit(0)"])
def test_an_error_while_a_pass_is_made_names_it(call, code):
    done = call(REFUSING.format(code=code), "run", "m.onnx", "-p", "fold,broken")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    first = done.stderr.splitlines()[0]
    assert "broken does not accept these options: " in first
    assert first.endswith("(a pass of broken-plugin (broken_module:Broken))")


COMBINING = with_field("takes_pipeline: ClassVar[bool] = True\n    inside: tuple[op.Pass, ...] = ()")


@pytest.mark.parametrize(("code", "words"), list(FAILING.items())[9:13])
def test_a_combinator_that_fails_is_named(call, code, words):
    done = call(f"{COMBINING}        {code}", "run", "m.onnx", "-p", "broken(fold)", "--no-reproducer")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("onnxpress: error: pass 'broken' failed: ")
    assert words in done.stderr
    assert "(a pass of broken-plugin 1.0, broken_module:Broken)" in done.stderr


def test_an_interrupt_while_a_plugin_is_imported_is_an_interrupt(call):
    assert call("raise KeyboardInterrupt", "run", "m.onnx", "-p", "broken").returncode == 130


def test_what_a_plugin_prints_does_not_get_into_the_output(call):
    """At import, when it is made, and when it runs: stdout carries only what was asked for."""
    noisy = "print('import')\n" + REFUSING.format(code="print('made')").replace("        pass", "        print('run')")
    listed = call(noisy, "passes", "--json")
    assert listed.returncode == 0
    assert "broken" in [one["name"] for one in json.loads(listed.stdout)]
    assert "import" in listed.stderr
    ran = call(noisy, "run", "m.onnx", "-p", "broken", "--quiet")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert all(word in ran.stderr for word in ("import", "made", "run"))


def test_what_a_combinator_prints_does_not_get_into_the_output_but_what_instruments_print_does(call):
    code = f"{COMBINING}        print('mine'); ctx.run(self.inside[0])"
    ran = call(code, "run", "m.onnx", "-p", "broken(fold)", "--print-ir-before=fold", "--quiet")
    assert ran.returncode == 0
    assert "Abs" in ran.stdout + ran.stderr
    assert "mine" in ran.stderr
    assert "mine" not in ran.stdout


def test_a_warning_at_import_is_no_error(call):
    done = call(
        f"import warnings; warnings.warn('old')\n{HEAD}        pass", "run", "m.onnx", "-p", "broken", "--quiet"
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_two_plugins_that_clash_are_both_named_and_harm_no_other(call, tmp_path):
    code = f"{HEAD}        pass"
    info = tmp_path / "site" / "second_plugin-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: second-plugin\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[onnxpress.passes]\nbroken = second_module:Broken\n")
    (tmp_path / "site" / "second_module.py").write_text(code)
    done = call(code, "run", "m.onnx", "-p", "broken")
    assert (done.returncode, done.stdout) == (2, "")
    first = done.stderr.splitlines()[0]
    assert "the pass name 'broken' belongs to " in first
    assert "broken-plugin (broken_module:Broken)" in first
    assert "second-plugin (second_module:Broken)" in first
    listed = call(code, "passes")
    assert listed.returncode == 0
    assert listed.stderr.count("\n") == 1
    assert call(code, "run", "m.onnx", "-p", "fold,dce", "--quiet").returncode == 0


TWICE = f"""{HEAD}        node = next(graph.nodes)
        first = ctx.rewriter.insert("Abs", [node.inputs[0]], before=node)
        ctx.rewriter.set_input(node, 0, first.outputs[0])
"""


def test_replay_names_a_plugin_of_another_version_or_none(call, tmp_path):
    args = ("run", "m.onnx", "-p", "repeat{times=2}(broken)", "-o", "out.onnx", "--provenance", "--quiet")
    assert call(TWICE, *args).returncode == 0
    replay = ("replay", "out.onnx", "--input", "m.onnx")
    assert call(TWICE, *replay).stdout == "the same bytes\n"

    metadata = tmp_path / "site" / "broken_plugin-1.0.dist-info" / "METADATA"
    code = [sys.executable, "-P", "-c", CALL, *replay]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}

    def again(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*code, *more], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    metadata.write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 2.0\n")
    done = again()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("out.onnx cannot be replayed: broken-plugin was 1.0 and is 2.0 here\n")

    shutil.rmtree(metadata.parent)
    done = again()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("out.onnx cannot be replayed: broken-plugin was 1.0 and is not installed here\n")
    done = again("--any-version")
    assert done.returncode == 2
    assert "unknown pass 'broken', and broken-plugin 1.0 is not installed here" in done.stderr
