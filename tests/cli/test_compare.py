"""`onnxpress compare`: the exit code is the verdict."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper


@pytest.fixture
def broken(tmp_path, model):
    """As `model`, but every output is NaN."""
    proto = onnx.load(model)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((64, 32), np.nan, np.float32), "w"))
    path = tmp_path / "nan.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def renamed(tmp_path, model):
    """As `model`, its output under another name."""
    proto = onnx.load(model)
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "z"
    path = tmp_path / "renamed.onnx"
    onnx.save(proto, path)
    return path


def test_equal(cli, model):
    code, out, err = cli("compare", model, model)
    assert (code, err) == (0, "")
    assert out.startswith("reference: equal, on ")
    assert "\ndeployment: equal, on " in out


def test_a_difference_is_accepted_without_a_limit(cli, model, other):
    code, out, _ = cli("compare", model, other)
    assert code == 0
    assert "they differ (no --max given)" in out


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (["rel-l2=0.1"], 0),
        (["rel-l2=10%", "sqnr=20dB", "argmax=50%"], 0),
        (["rel-l2=1e-3"], 1),
        (["rel-l2=0.1", "sqnr=60dB"], 1),
        (["unequal=0"], 1),
    ],
)
def test_limits(cli, model, other, data, limits, code):
    result = cli("compare", model, other, "--data", data, *[word for limit in limits for word in ("--max", limit)])
    assert result.code == code
    assert ("over the limit" in result.out) == (code == 1)
    assert "on 3 inputs" in result.out


def test_nan_never_passes(cli, model, broken):
    code, out, _ = cli("compare", model, broken, "--max", "rel-l2=1e300")
    assert code == 1
    assert "NaN or Inf at different places" in out


def test_nan_is_a_mismatch_without_limits_too(cli, model, broken):
    assert cli("compare", model, broken).code == 1


def test_another_interface_is_a_mismatch(cli, model, renamed):
    code, out, _ = cli("compare", model, renamed)
    assert code == 1
    assert "output 'y' is missing in the second model" in out


def test_what_a_alone_runs_is_a_mismatch(cli, tmp_path, model, data):
    proto = onnx.load(model)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    narrow = tmp_path / "narrow.onnx"
    onnx.save(proto, narrow)
    code, out, _ = cli("compare", model, narrow, "--data", data)
    assert code == 1
    assert "mismatch" in out


def unknown_operator(path, model):
    proto = onnx.load(model)
    proto.opset_import.append(onnx.helper.make_opsetid("com.nowhere", 1))
    proto.graph.node[-1].op_type = "Plus"
    proto.graph.node[-1].domain = "com.nowhere"
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("order", ["ab", "ba", "bb"])
def test_a_model_that_the_executor_refuses(cli, tmp_path, model, order):
    models = {"a": model, "b": unknown_operator(tmp_path / "custom.onnx", model)}
    code, out, err = cli("compare", *[models[which] for which in order])
    assert code == 1
    assert "equal" not in out
    assert "Plus" in out + err


def test_json(cli, model, other, data):
    code, out, err = cli("compare", model, other, "--data", data, "--max", "rel-l2=1e-3", "--max", "sqnr=1", "--json")
    assert (code, err) == (1, "")
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["passed"] is False
    for session in ("reference", "deployment"):
        one = found[session]
        assert one["verdict"] == "over"
        assert one["checked"] == 3
        assert [limit["holds"] for limit in one["limits"]] == [False, True]
        assert 0.02 < one["worst"]["rel-l2"]["value"] < 0.04


def test_infinities_in_json_are_strings(cli, model):
    found = json.loads(cli("compare", model, model, "--json").out, parse_constant=pytest.fail)
    assert found["reference"]["worst"]["sqnr"]["value"] == "inf"


def test_time(cli, model, other):
    code, out, _ = cli("compare", model, other, "--time", "--shape", "x=4x64")
    assert code == 0
    assert "Latency: " in out
    found = json.loads(cli("compare", model, other, "--time", "--json").out)
    assert found["latency"]["ratio"] > 0


def test_pins_decide_what_is_fed(cli, tmp_path, model):
    proto = onnx.load(model)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, []))
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(onnx.helper.make_node("Mul", ["before", "k"], ["y"]))
    scaled, plain = tmp_path / "scaled.onnx", tmp_path / "plain.onnx"
    onnx.save(proto, scaled)
    proto.graph.node[-1].op_type = "Add"
    onnx.save(proto, plain)
    assert cli("compare", scaled, plain, "--max", "unequal=0").code == 1
    ones = cli("compare", scaled, scaled, "--value", "k=0", "--max", "unequal=0")
    assert ones.code == 0


def test_the_result_of_a_run(cli, tmp_path, model):
    out = tmp_path / "out.onnx"
    assert cli("run", model, "-p", "fold,dce,quantize-insert{mode=weight-only}", "-o", out, "--quiet").code == 0
    assert cli("compare", model, out, "--max", "rel-l2=1e-2").code == 0
    assert cli("compare", model, out, "--max", "rel-l2=1e-6").code == 1


def test_inputs_that_a_refuses_are_counted(cli, tmp_path, model):
    proto = onnx.load(model)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2, -1]), "halves"))
    proto.graph.node.append(onnx.helper.make_node("Reshape", ["y", "halves"], ["z"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 32), np.float32), "two_rows"))
    proto.graph.node.append(onnx.helper.make_node("Add", ["z", "two_rows"], ["s"]))
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [2, 32]))
    even = tmp_path / "even.onnx"
    onnx.save(proto, even)
    np.savez(tmp_path / "d.npz", **{f"x@{i}": np.zeros((rows, 64), np.float32) for i, rows in enumerate((2, 3))})
    np.savez(tmp_path / "none.npz", x=np.zeros((3, 64), np.float32))
    code, out, _ = cli("compare", even, even, "--data", tmp_path / "d.npz")
    assert code == 0
    assert "equal, on 1 input (1 other discarded: A refuses them)" in out
    code, out, _ = cli("compare", even, even, "--data", tmp_path / "none.npz")
    assert code == 1
    assert "reference: not checked, on 0 inputs (3 others discarded: A refuses them)" in out
    assert "  3 x " in out
