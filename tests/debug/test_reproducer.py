"""A failing pass leaves a folder that shows the failure again, here and elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxpress as op
from onnxpress.passes.debug.failure import Failure
from onnxpress.passes.debug.reduce import Reduction
from onnxpress.passes.debug.reproducer import Case, write_reproducer

from .conftest import call_with, installed
from .harmful import CrashAtSin


@pytest.fixture
def folder(cli, tmp_path, long_chain):
    code, out, err = cli("run", long_chain, "-p", "fold,crash-at-sin,dce", "-o", tmp_path / "out.onnx")
    assert (code, out, err.count("\n")) == (3, "", 1)
    found = tmp_path / "onnxpress-reproducer-1"
    assert f"pass 'crash-at-sin' failed: KeyError: 'node340'; onnxpress reproduce {found} shows it again" in err
    assert not (tmp_path / "out.onnx").exists()
    return found


def test_it_is_small_and_still_fails(cli, folder):
    names = ["README.txt", "failure.json", "model.onnx", "pipeline.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [node.op_type for node in onnx.load(folder / "model.onnx").graph.node] == ["Exp", "Sin"]
    assert (folder / "pipeline.txt").read_text() == "crash-at-sin\n"
    facts = json.loads((folder / "failure.json").read_text())
    assert (facts["nodes"], facts["nodes_before"]) == (2, 500)
    assert cli("reproduce", folder).out == "reproduced: pass 'crash-at-sin' failed: KeyError: 'node340'\n"


def test_it_fails_on_a_machine_that_has_the_plugin_alone(long_chain, tmp_path):
    """In processes that know the pass from a distribution: the run that fails, and another elsewhere."""
    plugin = installed(tmp_path / "site")
    assert call_with(plugin, "run", long_chain, "-p", "fold,crash-at-sin", "--reproducer", tmp_path)[0] == 3
    folder = tmp_path / "moved"
    (tmp_path / "onnxpress-reproducer-1").rename(folder)
    long_chain.unlink()
    seen = "reproduced: pass 'crash-at-sin' failed: KeyError: 'node340'\n"
    assert call_with(plugin, "reproduce", folder) == (0, seen)
    (plugin / "harmful-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: harmful\nVersion: 2.0\n")
    code, words = call_with(plugin, "reproduce", folder)
    assert (code, words) == (0, f"{seen}harmful was 1.0 and is 2.0 here\n")
    code, words = call_with(None, "reproduce", folder)
    assert code == 2
    assert "unknown pass 'crash-at-sin'" in words
    assert words.endswith("the reproducer was made with harmful 1.0, not installed here\n")


@pytest.mark.parametrize("around", ["{}", "fold,{},dce", "guard{{rel-l2=0.1}}(fold,{})"])
def test_a_pass_that_changes_the_model_past_the_rewriter_leaves_one_too(cli, scales, tmp_path, around):
    """What it did cannot be undone: the model before it is made once more."""
    pipeline = around.format("spoil{how=tamper}")
    code, out, err = cli("run", scales, "-p", pipeline, "-o", tmp_path / "out.onnx")
    folder = tmp_path / "onnxpress-reproducer-1"
    failure = "pass 'spoil' failed: VerifyError: node 'scale5' was changed past the rewriter"
    assert (code, out) == (3, "")
    assert err.startswith(f"onnxpress: error: {failure}; onnxpress reproduce {folder} shows it again")
    assert err.count("\n") == 1
    assert len(onnx.load(folder / "model.onnx").graph.node) <= 2
    assert cli("reproduce", folder).out == f"reproduced: {failure}\n"


def test_a_pass_past_the_rewriter_is_bisected(cli, scales):
    code, out, _ = cli("bisect", scales, "-p", "fold,spoil{how=tamper},dce", "--when", "fails")
    assert (code, out.splitlines()[0]) == (0, "pass 2 of 3: spoil{how=tamper}")
    code, _, err = cli("bisect", scales, "-p", "fold,spoil{how=tamper},dce", "--when", "rel-l2>0.1")
    assert code == 1
    assert "node 'scale5' was changed past the rewriter (--when fails asks for that)" in err


def test_a_pass_that_hangs_leaves_one_too(cli, scales, tmp_path):
    code, _, err = cli("run", scales, "-p", "spoil{how=hang}", "--pass-timeout", "0.2", "--reproducer", tmp_path)
    assert code == 3
    assert "no sign of life" in err
    folder = tmp_path / "onnxpress-reproducer-1"
    assert [node.name for node in onnx.load(folder / "model.onnx").graph.node] == ["scale5"]
    assert cli("reproduce", folder).code == 0


def test_a_broken_promise_is_reproduced_with_the_inputs_that_show_it(cli, scales, tmp_path):
    assert cli("run", scales, "-p", "dce,spoil", "--reproducer", tmp_path).code == 3
    folder = tmp_path / "onnxpress-reproducer-1"
    assert (folder / "inputs.npz").is_file()
    code, out, _ = cli("reproduce", folder)
    assert code == 0
    assert "declares itself EXACT" in out


def test_weights_stay_at_home_if_that_is_asked_for(cli, scales, tmp_path):
    model = onnx.load(scales)
    weight = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight[:, :], "secret"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["secret", "w0"], ["extra"], name="scale5"))
    model.graph.node[10].name = "other"
    model.graph.output.append(onnx.helper.make_tensor_value_info("extra", onnx.TensorProto.FLOAT, [64, 16]))
    onnx.save(model, scales)
    given = ("--reproducer", tmp_path, "--synthetic-weights")
    assert cli("run", scales, "-p", "spoil", *given).code == 3
    folder = tmp_path / "onnxpress-reproducer-1"
    (found,) = [t for t in onnx.load(folder / "model.onnx").graph.initializer if t.name == "secret"]
    made = numpy_helper.to_array(found)
    assert made.shape == weight.shape
    assert not np.isin(made, weight).any()
    assert cli("reproduce", folder).code == 0


def test_a_folder_that_cannot_be_filled_is_not_left(tmp_path, scales):
    def save(model: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space")

    case = Case(CrashAtSin(), op.load(scales), Failure("crash-at-sin", "KeyError", "a:b:1", "x"), ())
    reduction = Reduction(case.model, (), 24, 1)
    with pytest.raises(OSError, match="no space"):
        write_reproducer(tmp_path, case, reduction, measured=False, seed=0, versions={}, save=save)
    assert [path.name for path in tmp_path.iterdir()] == [scales.name]


def test_a_folder_that_is_not_there_is_made(cli, scales, tmp_path):
    assert cli("run", scales, "-p", "spoil{how=tamper}", "--reproducer", tmp_path / "found" / "here").code == 3
    assert cli("reproduce", tmp_path / "found" / "here" / "onnxpress-reproducer-1").code == 0


def test_a_folder_is_never_overwritten(cli, folder, long_chain, tmp_path):
    cli("run", long_chain, "-p", "crash-at-sin", "--reproducer", tmp_path)
    assert (tmp_path / "onnxpress-reproducer-2" / "model.onnx").is_file()
    before = sorted(tmp_path.iterdir())
    assert cli("run", long_chain, "-p", "crash-at-sin", "--no-reproducer").code == 3
    assert sorted(tmp_path.iterdir()) == before


def test_what_fails_no_more_is_exit_code_one(cli, folder):
    (folder / "pipeline.txt").write_text("fold\n")
    code, out, _ = cli("reproduce", folder)
    assert code == 1
    assert out.startswith("not reproduced: no pass fails")


def test_a_damaged_folder_is_a_mistake(cli, folder, tmp_path):
    (folder / "failure.json").write_text("{")
    for wrong in (folder, tmp_path, tmp_path / "absent"):
        code, _, err = cli("reproduce", wrong)
        assert (code, err.count("\n")) == (2, 1)
