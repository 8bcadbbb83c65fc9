"""A file that declares an output, or something inside, with a wrong rank: nothing believes it, and it is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxpress
from onnxpress.specs import model_of

TEXT = """g (float[n,64] x) => (float[n,32] y) {
    h = MatMul(x, a) \n r = Relu(h) \n s = Shape(r) \n same = Reshape(r, s) \n y = MatMul(same, b)
}"""


def written(path: Path, output: list[object], inside: list[object]) -> Path:
    """Two layers with a Reshape that changes nothing between; `y` and `r` are declared as is said."""
    proto = model_of(TEXT)
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((64, 48)), "b": rng.standard_normal((48, 32))}
    proto.graph.initializer.extend(numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items())
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, output))
    proto.graph.value_info.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, inside))
    onnx.save(proto, path)
    return path


@pytest.fixture
def right(tmp_path: Path) -> Path:
    return written(tmp_path / "right.onnx", ["n", 32], ["n", 48])


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    return written(tmp_path / "wrong.onnx", ["n", 1, 32], ["n", 1, 48])


def test_nothing_wrong_is_baked_in(cli, tmp_path, right, wrong):
    results = []
    for source in (right, wrong):
        out = tmp_path / f"{source.stem}_out.onnx"
        assert cli("run", source, "-p", "simplify", "-o", out).code == 0
        assert cli("compare", right, out, "--max", "rel-l2=0").code == 0
        proto = onnx.load(out)
        results.append([(node.op_type, list(node.input)) for node in proto.graph.node])
    assert results[0] == results[1]
    assert [op_type for op_type, _ in results[0]] == ["MatMul", "Relu", "MatMul"]


def test_run_and_stats_say_what_is_wrong(cli, right, wrong):
    words = "the file declares [n,1,32], and it is [n,32]"
    assert words in cli("run", wrong, "-p", "fold").err
    assert "the file declares" not in cli("run", right, "-p", "fold").err
    assert "f32[n,1,32], but it is [n,32]" in cli("stats", wrong).out
    assert "but it is" not in cli("stats", right).out
    assert json.loads(cli("stats", wrong, "--json").out)["outputs"][0]["inferred"] == "[n,32]"


def test_shapes_corrects_it(cli, tmp_path, wrong):
    out = tmp_path / "out.onnx"
    assert cli("run", wrong, "-p", "shapes", "-o", out).code == 0
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert "but it is" not in cli("stats", out).out


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (["n", 32], None),
        (["other", 32], None),  # a name is no contradiction
        ([None, None], None),
        ([0, 32], None),  # an open size, as some exporters write it
        (["n", 33], "the file declares [n,33], and it is [n,32]"),
        (["n"], "the file declares [n], and it is [n,32]"),
    ],
)
def test_only_contradictions_are_named(tmp_path, output, told):
    model = onnxpress.load(written(tmp_path / "m.onnx", output, ["n", 48]))
    report = onnxpress.PassManager("dce", measure=False).run(model)
    assert [remark.reason for remark in report.remarks if remark.rule == "claim"] == ([told] if told else [])
