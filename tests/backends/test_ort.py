"""onnxruntime as the executor: any value on request, all types, and complaints in one line."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, TypeProto, helper

from onnxpress.backends import default_backend
from onnxpress.backends.files import model_from
from onnxpress.backends.ort import OrtBackend, versions
from onnxpress.backends.ort_words import plain
from onnxpress.errors import ExecutionError
from onnxpress.ir import Model, Port

from .building import model, port

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X = np.linspace(-1, 1, 800, dtype=np.float32).reshape(2, 400)


# ---- values on request


def chain() -> Model:
    """y = relu(-(x + 1)) beside a chain of constants and a sum that cannot be computed."""
    return model(
        [
            helper.make_node("Add", ["one", "one"], ["two"]),
            helper.make_node("Add", ["x", "one"], ["sum"]),
            helper.make_node("Neg", ["sum"], ["neg"]),
            helper.make_node("Relu", ["neg"], ["y"]),
            helper.make_node("Add", ["unused", "seven"], ["fails"]),
        ],
        [port("x", FLOAT, ["n"]), port("unused", FLOAT, ["k"])],
        [port("y", FLOAT, None)],
        {"one": np.ones(1, np.float32), "seven": np.ones(7, np.float32)},
    )


@pytest.mark.parametrize("optimize", [False, True])
def test_any_value_of_the_main_graph(optimize: bool) -> None:
    feed = {"x": np.array([-3, 5], np.float32)}
    want = {"neg": [2, -6], "x": [-3, 5], "y": [2, 0], "one": [1], "two": [2]}
    session = default_backend().prepare(chain(), outputs=[*want, "y"], optimize=optimize)
    assert [p.name for p in session.outputs] == [*want]
    assert [p.name for p in session.inputs] == ["x"]
    found = session.run(feed)
    assert {name: array.tolist() for name, array in found.items()} == want


def test_only_what_is_asked_for_is_run() -> None:
    session = default_backend().prepare(chain(), outputs=["two"])
    assert session.inputs == ()
    assert session.outputs == (Port("two", FLOAT, (1,)),)
    assert session.run({})["two"] == 2
    assert session.run({"x": np.zeros(3, np.float32), "unused": np.zeros(2, np.float32)})["two"] == 2
    with pytest.raises(ExecutionError, match="the model has no input 'z'"):
        session.run({"z": np.zeros(3)})


@pytest.mark.parametrize("name", ["nothing", "", "e"])
def test_values_that_the_main_graph_does_not_have(everywhere: ModelProto, name: str) -> None:
    with pytest.raises(ExecutionError, match=f"the main graph has no value '{name}'"):
        default_backend().prepare(model_from(everywhere), outputs=[name])


def test_functions_that_nothing_needs_are_left_out(everywhere: ModelProto) -> None:
    everywhere.functions[0].node.add(op_type="NoSuchOperator", output=["nothing"])
    subject = model_from(everywhere)
    with pytest.raises(ExecutionError, match="NoSuchOperator"):
        default_backend().prepare(subject)
    feed = {"x": X, "which": np.array(True)}
    assert default_backend().prepare(subject, outputs=["branch"]).run(feed)["branch"].shape == X.shape


# ---- ports


def test_ports_of_inputs_with_and_without_defaults() -> None:
    subject = model(
        [helper.make_node("Add", ["w", "x"], ["y"])],
        [port("w", FLOAT, [1]), port("x", FLOAT, ["n", None, 3])],
        [port("y", FLOAT, None)],
        {"w": np.ones(1, np.float32)},
    )
    session = default_backend().prepare(subject)
    assert session.inputs == (Port("w", FLOAT, (1,), optional=True), Port("x", FLOAT, ("n", None, 3)))
    feed = {"x": np.zeros((1, 1, 3), np.float32)}
    assert session.run(feed)["y"].max() == 1
    assert session.run(feed | {"w": np.full(1, 5, np.float32)})["y"].max() == 5


def test_scalars_and_unknown_ranks_are_told_apart() -> None:
    subject = model(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0), helper.make_node("Neg", ["x"], ["z"])],
        [port("x", FLOAT, None)],
        [port("y", FLOAT, []), port("z", FLOAT, None)],
    )
    session = default_backend().prepare(subject)
    assert session.inputs == (Port("x", FLOAT, None),)
    assert session.outputs == (Port("y", FLOAT, ()), Port("z", FLOAT, None))


def of_type(name: str, kind: TypeProto) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, kind)


def test_sequences_and_optionals() -> None:
    tensor = helper.make_tensor_type_proto(FLOAT, None)
    sequence, optional = helper.make_sequence_type_proto(tensor), helper.make_optional_type_proto(tensor)
    subject = model(
        [
            helper.make_node("Identity", ["s"], ["t"]),
            helper.make_node("Identity", ["o"], ["p"]),
            helper.make_node("OptionalHasElement", ["o"], ["has"]),
        ],
        [of_type("s", sequence), of_type("o", optional)],
        [of_type("t", sequence), of_type("p", optional), port("has", BOOL, [])],
    )
    session = default_backend().prepare(subject)
    assert session.inputs == (Port("s", None, None), Port("o", None, None))
    assert session.outputs[:2] == (Port("t", None, None), Port("p", None, None))
    found = session.run({"s": (np.zeros(2, np.float32), np.ones((1, 3), ">f4")), "o": np.ones(2, np.float32)})
    assert [item.tolist() for item in found["t"]] == [[0, 0], [[1, 1, 1]]]
    assert found["p"].tolist() == [1, 1]
    assert found["has"]
    empty = session.run({"s": [], "o": None})
    assert empty["t"] == []
    assert empty["p"] is None
    assert not empty["has"]


# ---- types


def identity(dtype: int) -> Model:
    return model([helper.make_node("Identity", ["x"], ["y"])], [port("x", dtype, None)], [port("y", dtype, None)])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.arange(3, dtype=">f4"),
        np.float32(3),
        np.ones((0, 3), np.float32),
        np.arange(24, dtype=">i8").reshape(2, 3, 4)[:, ::-1, 1],
        np.array(["a", "ü"]),
        np.array([["a", b"b"]], dtype=object),
        np.array([True, False]),
        np.arange(4, dtype=np.float16),
        np.arange(6).reshape(2, 3).T.astype(ml_dtypes.float8_e4m3fn, order="K"),
        np.arange(6).reshape(2, 3).T.astype(ml_dtypes.bfloat16, order="K"),
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)
def test_arrays_of_every_kind_come_back(array: np.ndarray) -> None:
    dtype = np.asarray(array).dtype
    code = TensorProto.STRING if dtype.kind in "OU" else helper.np_dtype_to_tensor_dtype(dtype.newbyteorder("="))
    found = default_backend().prepare(identity(code)).run({"x": array})["y"]
    assert found.shape == array.shape
    assert found.dtype == (object if dtype.kind in "OU" else dtype.newbyteorder("="))
    want = [item.decode() if isinstance(item, bytes) else item for item in np.asarray(array).flat]
    assert list(found.flat) == want


def test_four_bits_in_and_out() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "one"], ["float"]),
        helper.make_node("QuantizeLinear", ["float", "one", "zero"], ["y"]),
    ]
    weights = {"one": np.float32(1), "zero": np.array(0, ml_dtypes.int4)}
    subject = model(nodes, [port("x", TensorProto.INT4, None)], [port("y", TensorProto.INT4, None)], weights)
    levels = np.array([[-8, 7, 3], [0, -1, 2]], ml_dtypes.int4)
    session = default_backend().prepare(subject)
    found = session.run({"x": levels})["y"]
    assert found.dtype == levels.dtype
    assert np.array_equal(found, levels)


def test_mixed_types_of_outputs() -> None:
    subject = model(
        [
            helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
            helper.make_node("Cast", ["x"], ["s"], to=TensorProto.STRING),
            helper.make_node("Neg", ["x"], ["n"]),
        ],
        [port("x", FLOAT, [2])],
        [port("b", TensorProto.BFLOAT16, [2]), port("n", FLOAT, [2])],
    )
    feed = {"x": np.array([1, 2], np.float32)}
    found = default_backend().prepare(subject).run(feed)
    assert found["b"].dtype == ml_dtypes.bfloat16
    assert found["n"].tolist() == [-1, -2]
    assert default_backend().prepare(subject, outputs=["b", "s"]).run(feed)["s"].tolist() == ["1", "2"]


def test_what_the_binding_cannot_do_is_said() -> None:
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    subject = model(
        [
            helper.make_node("SequenceAt", ["s", "i"], ["x"]),
            helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16),
        ],
        [of_type("s", sequence), port("i", INT64, [])],
        [port("y", TensorProto.BFLOAT16, None)],
    )
    with pytest.raises(ExecutionError, match=r"cannot return bfloat16 or int4 from a model with .*\(s\)"):
        default_backend().prepare(subject).run({"s": [np.ones(2, np.float32)], "i": np.array(0)})


@pytest.mark.parametrize(
    ("dtype", "array", "words"),
    [
        (FLOAT, np.ones(2), "input 'x' is float64, the model takes float"),
        (TensorProto.BFLOAT16, np.ones(2, np.float32), "input 'x' is float32, the model takes bfloat16"),
        (FLOAT, np.ones(2, ml_dtypes.bfloat16), "input 'x' is bfloat16, the model takes float"),
        (FLOAT, np.array(["a"]), "the model takes float"),
        (TensorProto.STRING, np.ones(2), "the model takes string"),
    ],
)
def test_wrong_types_are_refused(dtype: int, array: np.ndarray, words: str) -> None:
    with pytest.raises(ExecutionError, match=words):
        default_backend().prepare(identity(dtype)).run({"x": array})


# ---- complaints


def test_refusals_are_one_line_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    session = default_backend().prepare(chain())
    words = []
    for subject in (
        model([helper.make_node("NoSuchOperator", ["x"], ["y"])], [port("x", FLOAT, [1])], [port("y", FLOAT, [1])]),
        model([helper.make_node("Relu", ["x"], ["y"])], [port("x", FLOAT, [1])], [port("y", INT64, [1])]),
    ):
        with pytest.raises(ExecutionError, match=r"^onnxruntime refuses the model: \S") as caught:
            default_backend().prepare(subject)
        words.append(str(caught.value))
    for feed in (
        {},
        {"x": np.ones(2, np.float32)},
        {"x": np.ones((2, 2), np.float32), "unused": np.ones(7, np.float32)},
        {"x": np.ones(2, np.float32), "unused": np.ones(2, np.float32)},
    ):
        with pytest.raises(ExecutionError, match=r"^onnxruntime refuses the feed: \S") as caught:
            session.run(feed)
        words.append(str(caught.value))
    for line in words:
        assert "\n" not in line
        assert not any(part in line for part in ("onnxruntime_src", "ONNXRuntimeError", ".cc:", ".h:"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::"
            "Model(onnx::ModelProto&&, const std::map<int(*)(char), bool>&) Unsupported model IR version: 14\n",
            "Unsupported model IR version: 14",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : while running Add node. Status Message: /onnxruntime_src/onnxruntime/core/"
            "x.h:563 void onnxruntime::Iterator::Init(ptrdiff_t) const axis == 1 was false.\nIt (really) is.\n",
            "while running Add node. Status Message: axis == 1 was false. It (really) is.",
        ),
        (
            "/onnxruntime_src/onnxruntime/python/x.cc:460 onnxruntime::python::add(pybind11::module&)::"
            "<lambda(const OrtValue*)> IsTensor() was false.",
            "IsTensor() was false.",
        ),
        ("", ""),
        ("x" * 1000, "x" * 400 + "..."),
    ],
)
def test_plain_words(words: str, want: str) -> None:
    assert plain(words) == want


def test_the_reference_configuration_has_one_thread() -> None:
    with pytest.raises(ValueError, match="one thread"):
        default_backend().prepare(chain(), threads=2)
    feed = {"x": np.ones(2, np.float32), "unused": np.ones(7, np.float32)}
    assert default_backend().prepare(chain(), optimize=True, threads=2).run(feed)["y"].tolist() == [0, 0]


def test_limits_are_the_real_ones() -> None:
    limits = OrtBackend().limits
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    ends = [port("x", FLOAT, [1])], [port("y", FLOAT, [1])]
    default_backend().prepare(model(nodes, *ends, opset=limits.opset, ir_version=limits.ir_version))
    if limits.opset < onnx.defs.onnx_opset_version():
        with pytest.raises(ExecutionError):
            default_backend().prepare(model(nodes, *ends, opset=limits.opset + 1))
    if limits.ir_version < onnx.IR_VERSION:
        with pytest.raises(ExecutionError):
            default_backend().prepare(model(nodes, *ends, ir_version=limits.ir_version + 1))


def test_names() -> None:
    found = versions()
    assert found.keys() == {"onnxruntime", "onnx", "numpy"}
    assert default_backend().name == f"onnxruntime {found['onnxruntime']}"
