"""`onnxpress print`: a model, or what of it goes together."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper


@pytest.fixture
def convolutions(tmp_path):
    """A convolution, a Split in two, one half through a depthwise convolution, and a layer behind their sum."""
    random = np.random.default_rng(0)
    shapes = {"A": (8, 3, 1, 1), "D": (4, 1, 3, 3), "B": (5, 4, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "A"], ["h"], name="first"),
        helper.make_node("Split", ["h", "sizes"], ["u", "v"], axis=1, name="split"),
        helper.make_node("Conv", ["u", "D"], ["d"], group=4, pads=[1] * 4, name="depthwise"),
        helper.make_node("Add", ["d", "v"], ["s"]),
        helper.make_node("Conv", ["s", "B"], ["y"], name="last"),
    ]
    held = [numpy_helper.from_array(random.normal(size=shape).astype(np.float32), n) for n, shape in shapes.items()]
    held.append(numpy_helper.from_array(np.array([4, 4]), "sizes"))
    x = helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])
    y = helper.make_tensor_value_info("y", 1, ["N", 5, 8, 8])
    path = tmp_path / "convolutions.onnx"
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_groups_say_what_would_be_cut_and_what_follows(cli, convolutions):
    before = convolutions.read_bytes()
    code, out, err = cli("print", convolutions, "--groups", "channel")
    assert (code, err) == (0, "")
    assert convolutions.read_bytes() == before
    groups = {block.splitlines()[1].strip(): block for block in out.split("\n\n") if block.startswith("group")}
    shared = groups["weights: A[0] (2 a unit), B[1], D[0]"]
    assert shared.splitlines()[0] == "group of 4 units, 4 free"
    assert "values: d[1], h[1] (2 a unit), s[1], u[1], v[1]" in shared
    assert "numbers: split of split, group of depthwise" in shared
    assert "3 stay: x[1]: it is an input or output of the model" in groups["weights: A[1]"]
    assert "5 stay: y[1]: it is an input or output of the model" in groups["weights: B[0]"]
    assert out.splitlines()[-1] == "3 groups, 4 of 12 channels can be cut"


def test_a_model_without_heads_has_no_groups_of_them(cli, convolutions):
    assert cli("print", convolutions, "--groups", "head").out == "0 groups, 0 of 0 heads can be cut\n"


def test_groups_are_of_a_known_unit_and_no_full_text(cli, convolutions):
    assert cli("print", convolutions, "--groups", "weight").code == 2
    code, out, err = cli("print", convolutions, "--groups", "head", "--full")
    assert (code, out) == (2, "")
    assert "do not go together" in err
