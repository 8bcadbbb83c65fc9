import json

import onnx
import pytest

from onnxpress import load
from onnxpress.ir.text import parse, print_model


def test_numbers(cli, model):
    found = json.loads(cli("stats", model, "--json").out)
    assert found["inputs"] == [{"name": "x", "type": "f32[n,64]", "optional": False}]
    assert found["outputs"] == [{"name": "y", "type": "f32[n,32]", "inferred": ""}]
    assert found["opset"] == {"ai.onnx": 17}
    assert found["ir_version"] == 8
    assert found["file_bytes"] == model.stat().st_size
    assert found["nodes"] == 4
    assert found["operators"] == {"Mul": 1, "MatMul": 1, "Neg": 1, "Add": 1}
    assert found["parameters"] == 64 * 32 + 1 + 32
    assert found["weight_bytes"] == 4 * found["parameters"]
    assert found["weight_bytes_by_type"] == {"f32": found["weight_bytes"]}
    assert [one["name"] for one in found["constants"]] == ["w", "b", "two"]
    assert found["constants"][0] == {"name": "w", "graph": "main", "dtype": "f32", "shape": [64, 32], "bytes": 8192} | {
        "graph": found["constants"][0]["graph"]
    }


@pytest.mark.parametrize(("shape", "macs"), [("x=1x64", 64 * 32), ("x=5x64", 5 * 64 * 32)])
def test_macs_at_a_shape(cli, model, shape, macs):
    found = json.loads(cli("stats", model, "--shape", shape, "--json").out)
    assert (found["macs"], found["macs_unknown"]) == (macs, 0)


def test_unknown_macs_are_said(cli, model):
    found = json.loads(cli("stats", model, "--json").out)
    assert (found["macs"], found["macs_unknown"]) == (0, 1)
    code, out, err = cli("stats", model)
    assert (code, err) == (0, "")
    assert "1 operator whose shapes are unknown (--shape NAME=... fixes an input)" in out


def test_text(cli, model):
    out = cli("stats", model, "--shape", "x=1x64").out
    assert "parameters    2,081 in 8.32 kB" in out
    assert "MACs          2,048\n" in out
    assert "f32[64,32]" in out


def test_external_data_count_as_disk(cli, external):
    found = json.loads(cli("stats", external, "--json").out)
    assert found["file_bytes"] == external.stat().st_size + (external.parent / "small.data").stat().st_size


def test_inputs_with_a_default_are_counted_apart(cli, tmp_path, model):
    proto = onnx.load(model)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [32]))
    path = tmp_path / "default.onnx"
    onnx.save(proto, path)
    assert "and 1 input with a default" in cli("stats", path).out


def test_print(cli, model):
    code, out, err = cli("print", model)
    assert (code, err) == (0, "")
    assert "MatMul" in out
    assert "f32" in out


def test_print_in_full_parses_back(cli, model):
    text = cli("print", model, "--full").out
    assert print_model(parse(text, weights=load(model)), full=True) == text
