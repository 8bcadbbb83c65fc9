"""onnx's reference evaluator behind the same protocol."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxpress.backends.files import load_model, model_from, save_model
from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, Model, Port
from onnxpress.specs import model_of

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def chain(**types: int) -> Model:
    """y = relu(-(x + w)), w = 1 unless fed, beside a constant; and a sum that cannot be computed."""
    nodes = [
        helper.make_node("Add", ["one", "one"], ["two"]),
        helper.make_node("Add", ["x", "w"], ["sum"]),
        helper.make_node("Neg", ["sum"], ["neg"]),
        helper.make_node("Relu", ["neg"], ["y"]),
        helper.make_node("Add", ["unused", "seven"], ["fails"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", FLOAT, ["n"]),
        helper.make_tensor_value_info("w", FLOAT, [1]),
        helper.make_tensor_value_info("unused", FLOAT, ["k"]),
    ]
    weights = {"w": np.ones(1, np.float32), "one": np.ones(1, np.float32), "seven": np.ones(7, np.float32)}
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", FLOAT, ["n"])], tensors)
    return model_from(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_both_executors_show_the_same_ports() -> None:
    backends: list[Backend] = [OrtBackend(), ReferenceBackend()]
    for outputs in (None, ["neg"], ["two"], ["sum", "x"]):
        one, other = (backend.prepare(chain(), outputs=outputs) for backend in backends)
        assert one.inputs == other.inputs
        assert [(p.name, p.dtype) for p in one.outputs] == [(p.name, p.dtype) for p in other.outputs]


def test_runs_with_and_without_the_default() -> None:
    session = ReferenceBackend().prepare(chain())
    assert session.inputs[:2] == (Port("x", FLOAT, ("n",)), Port("w", FLOAT, (1,), optional=True))
    assert session.outputs == (Port("y", FLOAT, ("n",)),)
    feed = {"x": np.array([-3, 5], np.float32), "unused": np.zeros(7, np.float32)}
    assert session.run(feed)["y"].tolist() == [2, 0]
    assert session.run(feed | {"w": np.full(1, -6, np.float32)})["y"].tolist() == [9, 1]


def test_any_value_of_the_main_graph_and_nothing_else() -> None:
    session = ReferenceBackend().prepare(chain(), outputs=["neg", "two", "one"])
    found = session.run({"x": np.array([-3, 5], np.float32), "unused": np.zeros(2, np.float32)})
    assert {name: array.tolist() for name, array in found.items()} == {"neg": [2, -6], "two": [2], "one": [1]}
    assert ReferenceBackend().prepare(chain(), outputs=["two"]).run({})["two"] == 2
    with pytest.raises(ExecutionError, match="the main graph has no value 'nothing'"):
        ReferenceBackend().prepare(chain(), outputs=["nothing"])


def test_weights_in_bodies_functions_and_files(everywhere: ModelProto, tmp_path) -> None:
    save_model(model_from(everywhere), tmp_path / "m.onnx", external_above=0)
    feed = {"x": np.ones((2, 400), np.float32), "which": np.array(True)}
    found = [
        ReferenceBackend().prepare(model).run(feed)["y"]
        for model in (model_from(everywhere), load_model(tmp_path / "m.onnx"))
    ]
    assert np.array_equal(*found)
    np.testing.assert_allclose(found[0], OrtBackend().prepare(model_from(everywhere)).run(feed)["y"], rtol=1e-6)


def test_refusals_are_one_line() -> None:
    session = ReferenceBackend().prepare(chain())
    good = {"x": np.ones(2, np.float32), "unused": np.zeros(7, np.float32)}
    for feed, words in (
        ({}, r"inputs \['x', 'unused'\] are missing"),
        (good | {"z": np.ones(2)}, "the model has no input 'z'"),
        (good | {"unused": np.zeros(2, np.float32)}, "the reference evaluator refuses the feed: "),
    ):
        with pytest.raises(ExecutionError, match=words) as caught:
            session.run(feed)
        assert "\n" not in str(caught.value)
    unknown = helper.make_model(
        helper.make_graph([helper.make_node("NoSuchOperator", [], ["y"])], "g", [], [
            helper.make_tensor_value_info("y", FLOAT, None)
        ]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )  # fmt: skip
    with pytest.raises(ExecutionError, match=r"the reference evaluator refuses the model: .*NoSuchOperator"):
        ReferenceBackend().prepare(model_from(unknown))


OMITTING = {
    "main": "{ , h = Split (x) y = Clip (h, , high) }",
    "body": """{ y = If (b) <
        then_branch = one () => (float[1] y1) { , h1 = Split (x) y1 = Clip (h1, , high) },
        else_branch = two () => (float[1] y2) { y2 = Identity (high) }> }""",
    "function": """{ y = local.f (x, high) }
        <domain: "local", opset_import: ["" : 17]> f (x, high) => (y) { , h = Split (x) y = Clip (h, , high) }""",
}


@pytest.mark.parametrize("place", OMITTING)
def test_an_omitted_output_is_not_read_as_an_omitted_input(place: str) -> None:
    """The evaluator keeps both under the empty name: the lower limit would be 5."""
    model = model_from(model_of(f"g (float[2] x, float high, bool b) => (float[1] y) {OMITTING[place]}"))
    feed = {"x": np.float32([5, -1]), "high": np.float32(9), "b": np.array(True)}
    session = ReferenceBackend().prepare(model)
    assert session.run({port.name: feed[port.name] for port in session.inputs})["y"].tolist() == [-1]


def test_the_standard_domain_has_two_names() -> None:
    proto = model_of("g (float[2] x) => (float[2] y) { z = Neg (x) y = Abs (z) }")
    proto.opset_import[0].domain = proto.graph.node[1].domain = "ai.onnx"
    assert ReferenceBackend().prepare(model_from(proto)).run({"x": np.float32([1, -2])})["y"].tolist() == [1, 2]


@pytest.mark.parametrize("opset", [7, 9, 13, 15])
def test_batch_normalization_is_at_inference_in_every_opset(opset: int) -> None:
    """Within a rounding of what onnxruntime gives: the statistics of the input play no part."""
    text = "g (float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y) {"
    model = model_from(model_of(text + " y = BatchNormalization (x, s, b, m, v) }", opset=opset))
    rng = np.random.default_rng(0)
    feed = {port: rng.uniform(1, 2, 3).astype(np.float32) for port in "sbmv"}
    feed["x"] = rng.standard_normal((2, 3, 4)).astype(np.float32)
    found, expected = (backend.prepare(model).run(feed)["y"] for backend in (ReferenceBackend(), OrtBackend()))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_one_configuration() -> None:
    for options in ({"optimize": True}, {"threads": 2}):
        with pytest.raises(ValueError, match="no deployment session"):
            ReferenceBackend().prepare(chain(), **options)
    assert ReferenceBackend().name == f"onnx reference {onnx.__version__}"


def test_strings_and_scalars() -> None:
    nodes = [
        helper.make_node("StringConcat", ["a", "a"], ["b"]),
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.STRING, [2]),
            helper.make_tensor_value_info("x", INT64, [3]),
        ],
        [helper.make_tensor_value_info("b", TensorProto.STRING, [2]), helper.make_tensor_value_info("s", INT64, [])],
    )
    subject = model_from(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))
    found = ReferenceBackend().prepare(subject).run({"a": np.array(["x", "yz"]), "x": np.arange(3)})
    assert found["b"].dtype == object
    assert found["b"].tolist() == ["xx", "yzyz"]
    assert found["s"].shape == ()
    assert found["s"] == 3
