"""`onnxpress run`: what it writes, says and refuses to write."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxpress.backends.ort_session import OrtSession
from onnxpress.passes.manager import text as text_module

SMALLER = "fold,dce,quantize-insert{mode=weight-only}"
PASSES = [text_module.pass_text(pass_) for pass_ in text_module.parse_pipeline(SMALLER)]


def content(path):
    return onnx.load(path, load_external_data=False).SerializeToString(deterministic=True)


def test_writes_a_smaller_model(cli, tmp_path, model):
    out = tmp_path / "out.onnx"
    code, stdout, err = cli("run", model, "-p", SMALLER, "-o", out)
    assert (code, stdout) == (0, "")
    onnx.checker.check_model(str(out), full_check=True)
    assert out.stat().st_size < 0.5 * model.stat().st_size
    assert f"Wrote {out}" in err
    assert [line.split()[0] for line in err.splitlines()[1:6]] == ["pass", "input", *PASSES]
    assert "deployed" in err


def test_dry_run_writes_nothing(cli, tmp_path, model):
    before = sorted(tmp_path.iterdir())
    code, stdout, err = cli("run", model, "-p", SMALLER)
    assert (code, stdout) == (0, "")
    assert "Dry run, nothing written" in err
    assert sorted(tmp_path.iterdir()) == before


def test_without_measuring_the_same_is_written(cli, tmp_path, model):
    measured, unmeasured, told = (tmp_path / name for name in ("measured.onnx", "unmeasured.onnx", "told.json"))
    assert cli("run", model, "-p", SMALLER, "-o", measured).code == 0
    code, stdout, err = cli("run", model, "-p", SMALLER, "-o", unmeasured, "--report", told, "--no-measure")
    assert (code, stdout) == (0, "")
    assert unmeasured.read_bytes() == measured.read_bytes()
    assert "Not measured: not asked for." in err
    report = json.loads(told.read_text())
    assert report["deployment_error"] is report["after"]["error"] is None
    assert [step["pass"] for step in report["steps"]] == PASSES
    assert report["after"]["file_bytes"] == unmeasured.stat().st_size


def test_without_measuring_no_model_is_run_on_inputs(cli, model, monkeypatch):
    fed = []
    run = OrtSession.run
    monkeypatch.setattr(OrtSession, "run", lambda self, feeds: fed.append(dict(feeds)) or run(self, feeds))
    assert cli("run", model, "-p", SMALLER, "--no-measure").code == 0
    assert fed == [{}], "the constants of fold are evaluated, and nothing else is"
    assert cli("run", model, "-p", SMALLER).code == 0
    assert any(fed)


def test_without_measuring_structure_is_verified(cli, model, spoiling, monkeypatch):
    monkeypatch.setattr(spoiling, "run", lambda self, graph, ctx: setattr(graph.nodes[0].outputs[0], "_name", "y"))
    code, _, err = cli("run", model, "-p", "spoil", "--no-measure", "--no-reproducer")
    assert code == 3
    assert "spoil" in err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--budget", "rel-l2=1"), "--budget"),
        (("--verify-each", "numbers"), "--verify-each numbers"),
        (("--samples", "2"), "--samples"),
        (("--time",), "--time"),
        (("-p", "fixpoint(guard{rel-l2=1}(fold))"), "the pass 'guard{rel-l2=1}(fold)'"),
    ],
)
def test_without_measuring_nothing_decides_by_it(cli, tmp_path, model, arguments, what):
    out = tmp_path / "out.onnx"
    code, stdout, err = cli("run", model, "-p", SMALLER, *arguments, "-o", out, "--no-measure")
    assert (code, stdout) == (2, "")
    assert err == (
        f"onnxpress: error: --no-measure runs the models on no inputs, which {what} needs: leave one of them out\n"
    )
    assert not out.exists()


def test_empty_pipeline_writes_the_same_bytes(cli, tmp_path, model):
    out = tmp_path / "out.onnx"
    assert cli("run", model, "-p", "", "-o", out).code == 0
    assert out.read_bytes() == content(model)


def test_empty_pipeline_keeps_external_data(cli, tmp_path, external):
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "out.onnx"
    assert cli("run", external, "-p", "", "-o", out).code == 0
    [data] = out.parent.glob("*.data")
    assert data.read_bytes() == (external.parent / "small.data").read_bytes()


def test_in_place(cli, model):
    before = model.stat().st_size
    code, _, err = cli("run", model, "-p", SMALLER, "--in-place")
    assert code == 0
    assert f"Wrote {model}" in err
    assert model.stat().st_size < before


def test_in_place_with_the_input_as_output(cli, model):
    assert cli("run", model, "-p", "dce", "--in-place", "-o", model).code == 0
    assert [node.op_type for node in onnx.load(model).graph.node] == ["Mul", "MatMul", "Add"]


def test_in_place_with_external_data(cli, external):
    expected = numpy_helper.to_array(onnx.load(external).graph.initializer[0])
    assert cli("run", external, "-p", "dce", "--in-place").code == 0
    found = onnx.load(external)
    assert np.array_equal(numpy_helper.to_array(found.graph.initializer[0]), expected)


def test_external_above(cli, tmp_path, model):
    out = tmp_path / "out.onnx"
    assert cli("run", model, "-p", "", "-o", out, "--external-above", "1kB").code == 0
    assert out.stat().st_size < 2000
    assert len(list(tmp_path.glob("out.*.data"))) == 1
    onnx.checker.check_model(str(out), full_check=True)


def test_quiet(cli, tmp_path, model):
    assert cli("run", model, "-p", SMALLER, "-o", tmp_path / "out.onnx", "--quiet") == (0, "", "")


def test_report(cli, tmp_path, model, data):
    path, out = tmp_path / "report.json", tmp_path / "out.onnx"
    args = ["--data", data, "--seed", 7, "--report", path, "-o", out]
    assert cli("run", model, "-p", f" {SMALLER.replace(',', ' , ')}", *args).code == 0
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found["pipeline"] == ",".join(PASSES)
    assert found["seed"] == 7
    assert "3 samples" in found["data"]
    assert "onnxpress" in found["versions"]
    assert [step["pass"] for step in found["steps"]] == PASSES
    assert [step["effect"] for step in found["steps"]] == ["EXACT", "EXACT", "LOSSY"]
    assert found["before"]["file_bytes"] == model.stat().st_size
    assert found["after"]["file_bytes"] == out.stat().st_size
    assert found["before"]["macs"] == 64 * 32
    assert found["steps"][0]["error"]["rel-l2"] == 0
    assert found["steps"][0]["error"]["sqnr"] == "inf"
    assert 0 < found["after"]["error"]["rel-l2"] < 0.01
    assert 0 < found["deployment_error"]["rel-l2"] < 0.01
    [weight] = [entry for entry in found["weights"] if entry["name"] == "w"]
    assert weight["outcome"] == "quantized"
    assert weight["nbytes"] == 64 * 32 * 4
    assert weight["final_nbytes"] < 0.3 * weight["nbytes"]


def test_same_input_and_seed_give_the_same_bytes(cli, tmp_path, model):
    for name in ("a.onnx", "b.onnx"):
        assert cli("run", model, "-p", SMALLER, "-o", tmp_path / name, "--seed", 3).code == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_time(cli, tmp_path, model):
    path = tmp_path / "report.json"
    code, _, err = cli("run", model, "-p", "fold", "--time", "--report", path, "--shape", "x=5x64")
    assert code == 0
    assert "Latency: " in err
    latency = json.loads(path.read_text())["latency"]
    assert latency["ratio"] > 0
    assert latency["ratio_low"] <= latency["ratio"] <= latency["ratio_high"]


def test_timing_and_statistics(cli, model):
    err = cli("run", model, "-p", "repeat(fold,dce)", "--timing", "--statistics").err
    assert "itself  verifying  measuring" in err
    assert "framework, without measuring," in err
    assert "  fold" in err
    assert "rule evaluate" in err
    assert "nothing changed" in err


def test_budget(cli, tmp_path, model):
    out, report = tmp_path / "out.onnx", tmp_path / "report.json"
    asked = ("-p", SMALLER, "--budget", "rel-l2=1e-9", "-o", out, "--report", report)
    code, _, err = cli("run", model, *asked)
    assert code == 0
    assert "rolled back, over the budget: rel-l2" in err
    steps = json.loads(report.read_text())["steps"]
    assert [step["fate"] for step in steps] == ["ran", "ran", "rolled back"]
    assert content(out) != content(model)
    out.unlink()
    code, _, err = cli("run", model, *asked, "--over-budget=stop")
    assert code == 1
    assert err.startswith("onnxpress: error: pass 'quantize-insert' is over the budget: rel-l2")
    assert not out.exists()
    assert cli("run", model, "-p", "fold", "--budget", "rel-l3=1").code == 2


def test_verify_each_numbers_measures_inside_combinators(cli, tmp_path, model):
    report = tmp_path / "report.json"
    for asked, measured in (("structure", False), ("numbers", True), ("off", False)):
        assert cli("run", model, "-p", "repeat(fold,dce)", "--verify-each", asked, "--report", report).code == 0
        inside = json.loads(report.read_text())["steps"][0]["steps"]
        assert [step["step_error"] is not None for step in inside] == [measured, measured, False, False]


def test_samples(cli, model, data):
    assert "on 2 samples" in cli("run", model, "-p", "fold", "--data", data, "--samples", "2").err


def test_pipeline_from_a_file(cli, tmp_path, model):
    file = tmp_path / "pipeline.txt"
    file.write_text("fold, # first\ndce\n")
    assert "dce" in cli("run", model, "-p", f"@{file}").err
    code, _, err = cli("run", model, "-p", f"@{tmp_path / 'absent.txt'}")
    assert (code, err.count("\n")) == (2, 1)
    file.write_text("fold,\ndze\n")
    assert "did you mean 'dce'?" in cli("run", model, "-p", f"@{file}").err


def test_missed_remarks_are_shown_and_applied_ones_on_request(cli, model):
    err = cli("run", model, "-p", "dce,dce").err
    assert "nothing is dead" in err
    assert "removed" not in err
    err = cli("run", model, "-p", "dce,dce", "--remarks=all").err
    assert "nothing is dead" in err
    assert "removed" in err


def test_tables_are_plain_where_nobody_looks(cli, model):
    err = cli("run", model, "-p", SMALLER).err
    assert "\x1b" not in err
    assert not any(line.endswith(" ") for line in err.splitlines())


def test_a_model_that_gives_nan_is_not_written(cli, tmp_path, model, spoiling):
    out, report = tmp_path / "out.onnx", tmp_path / "report.json"
    code, stdout, err = cli("run", model, "-p", "spoil", "-o", out, "--report", report)
    assert (code, stdout) == (1, "")
    assert "nothing is written" in err.splitlines()[-1]
    assert not out.exists()
    assert not report.exists()


def test_a_pass_that_fails_is_three_and_named(cli, tmp_path, model, spoiling):
    out = tmp_path / "out.onnx"
    code, stdout, err = cli("run", model, "-p", "fold,spoil{how=fail}", "-o", out, "--no-reproducer")
    assert (code, stdout) == (3, "")
    assert err.startswith("onnxpress: error: pass 'spoil' failed: KeyError: 'lost'")
    assert err.count("\n") == 1
    assert not out.exists()


def test_an_interrupt_leaves_no_file(cli, tmp_path, model, spoiling):
    before = sorted(tmp_path.iterdir())
    args = ["-o", tmp_path / "out.onnx", "--report", tmp_path / "report.json"]
    assert cli("run", model, "-p", "spoil{how=interrupt}", *args) == (
        130,
        "",
        "onnxpress: error: interrupted in pass 'spoil{how=interrupt}'\n",
    )
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c(tmp_path, model):
    """The signal itself, while the run waits for its data: no traceback, no half-written file."""
    (tmp_path / "slow.py").write_text(
        "import time\ndef feeds():\n    print('started', flush=True)\n    time.sleep(60)\n    yield {}\n"
    )
    before = sorted(tmp_path.glob("*.*"))
    code = "from onnxpress.cli.main import main; raise SystemExit(main())"
    args = ["run", model, "-p", "fold", "-o", tmp_path / "out.onnx", "--data", "slow:feeds"]
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "onnxpress: error: interrupted\n")
    assert sorted(tmp_path.glob("*.*")) == before


def test_data_that_the_model_refuses_are_not_called_equal(cli, tmp_path, model):
    graph = onnx.load(model)
    graph.graph.node.append(onnx.helper.make_node("Reshape", ["y", "shape"], ["z"]))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([7, 32]), "shape"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [7, 32]))
    picky = tmp_path / "picky.onnx"
    onnx.save(graph, picky)
    np.savez(tmp_path / "three.npz", **{f"x@{i}": np.zeros((3, 64), np.float32) for i in range(2)})
    report = tmp_path / "report.json"
    code, _, err = cli("run", picky, "-p", "dce", "--data", tmp_path / "three.npz", "--report", report)
    assert code == 0
    assert "Not measured" in err
    found = json.loads(report.read_text())
    assert found["after"]["error"] is None
    assert found["after"]["unmeasured"]


def test_words_round_down_what_is_good():
    from onnxpress.cli.words import bytes_text, count_text, metric_text, share_text

    assert share_text(0.99999) == "99.99%"
    assert share_text(1) == "100%"
    assert [bytes_text(n) for n in (0, 999, 1000, 334_442, 999_600, 2_000_000_000)] == [
        "0 B",
        "999 B",
        "1 kB",
        "334 kB",
        "1 MB",
        "2 GB",
    ]
    assert [count_text(n) for n in (0, 9_999, 10_000, 22_713_216)] == ["0", "9,999", "10 k", "22.7 M"]
    assert metric_text("sqnr", math.inf) == "inf"
    assert metric_text("unequal", math.inf) == "inf"
    assert metric_text("rel-l2", 0.0) == "0"
    assert metric_text("argmax", -math.inf) == "-inf"
