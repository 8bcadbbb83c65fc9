"""Quantizing twice, and quantizing what cannot be: nothing changes, a remark says why, and it is no success."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxpress.backends.ort import OrtBackend
from onnxpress.cli.main import main
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert

RNG = np.random.default_rng(9)
W = RNG.standard_normal((64, 32)).astype(np.float32)
TEXT = "g (float[4,64] x) => (float[4,32] y) { h = MatMul(x, w) y = Sigmoid(h) }"
MODES = {
    "weight-only": {},
    "weight-only, dq": {"form": "dq"},
    "weight-only, int4": {"type": "int4"},
    "weight-only, codebook": {"type": "int4", "levels": "kmeans"},
    "weight-only, nbits": {"type": "int4", "format": "nbits"},
    "static": {"mode": "static", "latency": "off", "error": 10.0},
    "static, qoperator": {"mode": "static", "latency": "off", "error": 10.0, "format": "qoperator"},
    "static, uint16": {"mode": "static", "latency": "off", "error": 10.0, "activations": "uint16"},
    "dynamic": {"mode": "dynamic", "latency": "off", "error": 10.0},
}


def run(proto, **options):
    lowered = lower(proto)
    data = [{"x": RNG.standard_normal((4, 64)).astype(np.float32)} for _ in range(4)]
    return lowered, PassManager([QuantizeInsert(rounding="nearest", **options)], OrtBackend()).run(lowered, data=data)


@pytest.mark.parametrize("second", MODES)
@pytest.mark.parametrize("first", MODES)
def test_a_second_run_of_any_mode_changes_nothing_and_says_why(first, second, model):
    once, report = run(model(TEXT, w=W), **MODES[first])
    assert report.changed
    made = emit(once)
    twice, report = run(made, **MODES[second])
    assert not report.changed
    assert emit(twice) == made
    reasons = [remark.reason for remark in report.remarks]
    assert "no weight was quantized" in reasons
    if "static" in second or "dynamic" in second:
        assert any("it is quantized already" in reason for reason in reasons)


@pytest.mark.parametrize("text", ["", "{mode=static}", "{mode=static format=qoperator}", "{mode=dynamic}"])
def test_on_the_command_line_nothing_to_do_is_no_success(text, tmp_path, capsys):
    source, output = tmp_path / "in.onnx", tmp_path / "out.onnx"
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    onnx.save(parser.parse_model(header + "g (float[4,8] x) => (float[4,8] y) { y = Exp(x) }"), source)
    assert main(["run", str(source), "-p", f"quantize-insert{text}", "--data", "random", "-o", str(output)]) == 1
    assert not output.exists()
    told = capsys.readouterr().err
    assert "no weight was quantized" in told
    assert f"nothing is written: quantize-insert{text} found nothing to do" in told


@pytest.mark.parametrize("text", ["dce,{}", "fixpoint(dce,{})", "dce,{},float"])
@pytest.mark.parametrize("inside", ["quantize-insert", "at{ops=[MatMul]}(quantize-insert)"])
def test_what_other_passes_do_makes_it_no_success(text, inside, tmp_path, capsys):
    source, output = tmp_path / "in.onnx", tmp_path / "out.onnx"
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    body = "g (float[4,8] x) => (float[4,8] y) { dead = Exp(x) y = Exp(x) }"
    onnx.save(parser.parse_model(header + body), source)
    assert main(["run", str(source), "-p", text.format(inside), "-o", str(output)]) == 1
    assert not output.exists()
    told = capsys.readouterr().err
    assert "nothing is written: quantize-insert" in told


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("factorize{error=0.01}", 0),
        ("prune{criterion=zero}", 0),
        ("prune{error=0.01}", 0),
        ("factorize{macs=0.5}", 1),
        ("prune{sparsity=0.3}", 1),
    ],
)
def test_within_a_limit_nothing_may_be_what_was_asked_for(text, code, tmp_path):
    source, output = tmp_path / "in.onnx", tmp_path / "out.onnx"
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    onnx.save(parser.parse_model(header + "g (float[4,8] x) => (float[4,8] y) { y = Exp(x) }"), source)
    assert main(["run", str(source), "-p", text, "--data", "random", "-o", str(output)]) == code
    assert output.exists() == (code == 0)


def test_what_is_exact_may_find_nothing_to_do(tmp_path):
    source, output = tmp_path / "in.onnx", tmp_path / "out.onnx"
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    onnx.save(parser.parse_model(header + "g (float[4,8] x) => (float[4,8] y) { y = Exp(x) }"), source)
    assert main(["run", str(source), "-p", "fold,dce", "-o", str(output)]) == 0
    assert output.exists()
