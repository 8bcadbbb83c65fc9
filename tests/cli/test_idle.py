"""A pass that was to change something and found nothing to do: exit code 1 and no file, whatever other passes did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxpress.specs import model_of

FOLDABLE = "(float[n,4] x) => (float[n,4] y) { two = Add(one, one) \n p = Mul(x, two) \n y = Exp(p) }"
LAYERS = """(float[n,64] x) => (float[n,8] y) {
    two = Add(one, one) \n p = Mul(x, two) \n h = MatMul(p, a) \n r = Relu(h) \n y = MatMul(r, b)
}"""


def written(path: Path, text: str, **weights: np.ndarray) -> Path:
    proto = model_of(f"g {text}")
    made = {"one": np.ones(1, np.float32), **weights}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in made.items())
    onnx.save(proto, path)
    return path


@pytest.fixture
def foldable(tmp_path: Path) -> Path:
    """Something to fold, and nothing else to do."""
    return written(tmp_path / "in.onnx", FOLDABLE)


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """Something to fold, and two layers."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(64, 32)).astype(np.float32), rng.normal(size=(32, 8)).astype(np.float32)
    return written(tmp_path / "layers.onnx", LAYERS, a=a, b=b)


IDLE = ["prune{sparsity=0.3}", "prune{unit=weight sparsity=0.3}", "prune{unit=layer macs=0.5}", "factorize{macs=0.5}"]
IDLE += ["quantize-insert", "quantize-insert{mode=static}", "quantize-insert{mode=dynamic}", "float"]


AROUND = ["fold,{}", "{},fold,dce", "fixpoint(fold,{})", "repeat({})", "at{{ops=[Exp]}}({})"]


@pytest.mark.parametrize(
    ("pass_", "around"), [*((pass_, "{}") for pass_ in IDLE), *(("prune{sparsity=0.3}", around) for around in AROUND)]
)
def test_what_others_change_is_no_excuse(cli, tmp_path, foldable, pass_, around):
    out, report = tmp_path / "out.onnx", tmp_path / "report.json"
    pipeline = around.format(pass_)
    code, _, err = cli("run", foldable, "-p", pipeline, "--data", "random", "-o", out, "--report", report)
    assert code == 1
    assert err.splitlines()[-1] == f"onnxpress: error: nothing is written: {pass_} found nothing to do; see remarks"
    assert not out.exists()
    assert not report.exists()


@pytest.mark.parametrize(
    "pass_", ["prune{error=0.01}", "prune{criterion=zero}", "factorize{error=0.01}", "factorize", "factorize{vbmf}"]
)
def test_a_search_may_find_nothing(cli, tmp_path, foldable, pass_):
    out = tmp_path / "out.onnx"
    assert cli("run", foldable, "-p", pass_, "--data", "random", "-o", out).code == 0
    assert out.exists()


def test_each_pass_is_judged_by_itself(cli, tmp_path, layers):
    out = tmp_path / "out.onnx"
    pipeline = "prune{sparsity=0.5 unit=weight},quantize-insert{min-bytes=1MB},float"
    code, _, err = cli("run", layers, "-p", pipeline, "-o", out)
    assert code == 1
    assert err.splitlines()[-1].endswith(
        "nothing is written: quantize-insert{min-bytes=1MB} found nothing to do; see remarks"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    "pipeline",
    [
        "fixpoint(quantize-insert,dce)",  # the second round finds nothing
        "quantize-insert,quantize-insert",
        "at{ops=[MatMul]}(prune{sparsity=0.5 unit=weight})",
        "guard{rel-l2=1e-9}(prune{sparsity=0.5})",  # found, and taken back
        "guard{rel-l2=1e-9}(fold,prune{sparsity=0.5})",
    ],
)
def test_what_was_found_once_counts(cli, tmp_path, layers, pipeline):
    out = tmp_path / "out.onnx"
    assert cli("run", layers, "-p", pipeline, "-o", out).code == 0
    assert out.exists()


def test_what_a_budget_takes_back_was_found(cli, tmp_path, layers):
    out = tmp_path / "out.onnx"
    asked = ("--budget", "rel-l2=1e-9", "-o", out)
    assert cli("run", layers, "-p", "prune{sparsity=0.5}", *asked).code == 0
    assert out.exists()


def test_a_guard_does_not_hide_an_idle_pass(cli, tmp_path, foldable, layers):
    out = tmp_path / "out.onnx"
    nothing_there = ("run", foldable, "-p", "guard{rel-l2=1e-2}(prune{sparsity=0.5})", "-o", out)
    taken_back = ("run", layers, "-p", "guard{rel-l2=1e-9}(prune{sparsity=0.5},factorize{rank=30})", "-o", out)
    for asked in (nothing_there, taken_back):
        code, _, err = cli(*asked)
        assert code == 1
        assert "found nothing to do" in err.splitlines()[-1]
        assert not out.exists()


def test_the_report_tells_own_edits(cli, tmp_path, layers):
    report = tmp_path / "report.json"
    assert cli("run", layers, "-p", "prune{sparsity=0.5}", "--report", report).code == 0
    (step,) = json.loads(report.read_text())["steps"]
    (fold,) = step["steps"]
    assert (step["pass"], fold["pass"]) == ("prune{sparsity=0.5}", "fold")
    assert step["own_edits"] > 0
    assert step["own_edits"] + sum(fold["edits"].values()) == sum(step["edits"].values())
