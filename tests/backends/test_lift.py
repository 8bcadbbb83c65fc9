"""Weights on their way to onnxruntime: inside the message, from memory or from their file, the bits are the same."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxpress.backends import default_backend
from onnxpress.backends.files import load_model, model_from, save_model
from onnxpress.backends.generate import generate_feeds
from onnxpress.backends.lift import lift
from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.backends.skeleton import Skeleton
from onnxpress.ir import Port, emit, strip_weights

from .building import model, port

External = Callable[..., Path]
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
INLINE, LIFTED = OrtBackend(inline_below=1 << 30), OrtBackend(inline_below=0)
X = np.linspace(-1, 1, 800, dtype=np.float32).reshape(2, 400)


def identical(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a
    )


@pytest.mark.parametrize("ir_version", [3, 10])
@pytest.mark.parametrize("listed", [False, True])
def test_a_weight_that_nothing_reads_is_no_hindrance(ir_version: int, listed: bool) -> None:
    weights = [numpy_helper.from_array(np.full((64, 64), k, np.float32), f"w{k}") for k in (1, 2)]
    inputs = [port("x", FLOAT, (2, 64))]
    inputs += [port(w.name, FLOAT, (64, 64)) for w in weights if listed or ir_version == 3]
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["y"])]
    graph = helper.make_graph(nodes, "g", inputs, [port("y", FLOAT, (2, 64))], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=ir_version)
    feed = {"x": np.ones((2, 64), np.float32)}
    first, other = (backend.prepare(model_from(proto)) for backend in (INLINE, LIFTED))
    assert first.inputs == other.inputs
    assert identical(first.run(feed), other.run(feed))


def test_a_weight_of_a_body_that_nothing_reads_is_no_hindrance() -> None:
    def body(name: str) -> onnx.GraphProto:
        weights = [numpy_helper.from_array(np.full((64, 64), 2, np.float32), w) for w in (f"w{name}", f"unread{name}")]
        nodes = [helper.make_node("MatMul", ["x", f"w{name}"], [name])]
        return helper.make_graph(nodes, name, [], [port(name, FLOAT, (2, 64))], weights)

    branch = helper.make_node("If", ["c"], ["y"], then_branch=body("p"), else_branch=body("q"))
    subject = model([branch], [port("c", BOOL, ()), port("x", FLOAT, (2, 64))], [port("y", FLOAT, (2, 64))])
    feed = {"c": np.array(True), "x": np.ones((2, 64), np.float32)}
    assert identical(INLINE.prepare(subject).run(feed), LIFTED.prepare(subject).run(feed))


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("which", [False, True])
def test_the_way_of_weights_does_not_matter(
    everywhere: ModelProto, tmp_path: Path, optimize: bool, which: bool
) -> None:
    inside = model_from(everywhere)
    save_model(inside, tmp_path / "m.onnx", external_above=0)
    outside = load_model(tmp_path / "m.onnx")
    feed = {"x": X, "which": np.array(which)}
    ways = ((INLINE, inside), (LIFTED, inside), (INLINE, outside), (LIFTED, outside))
    first, *others = (backend.prepare(subject, optimize=optimize).run(feed) for backend, subject in ways)
    assert all(identical(first, other) for other in others)
    oracle = ReferenceBackend().prepare(outside).run(feed)
    np.testing.assert_allclose(first["y"], oracle["y"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("optimize", [False, True])
def test_the_way_of_weights_does_not_matter_to_real_models(real: Path, tmp_path: Path, optimize: bool) -> None:
    inside = load_model(real)
    save_model(inside, tmp_path / "m.onnx", external_above=0)
    first = INLINE.prepare(inside, optimize=optimize)
    (feed,) = generate_feeds(emit(inside, strip_weights()), first, n=1, seed=0).feeds
    want = first.run(feed)
    for backend, subject in ((LIFTED, inside), (INLINE, load_model(tmp_path / "m.onnx"))):
        assert identical(backend.prepare(subject, optimize=optimize).run(feed), want)


def test_lifting_leaves_a_small_message(everywhere: ModelProto) -> None:
    skeleton = Skeleton(model_from(everywhere))
    lifted = lift(skeleton, 0)
    assert len(lifted) == 6, "the function is called twice, so its weight has two names"
    assert {tensor.shape for tensor in lifted.values()} == {(400,)}
    assert skeleton.pieces().nbytes < 2500
    assert not skeleton.proto.functions
    assert {"main", "c"} < lifted.keys()


def test_lifted_names_are_fresh_and_outputs_keep_theirs() -> None:
    weight = numpy_helper.from_array(np.arange(500, dtype=np.float32), "w")
    branches = {
        "then_branch": helper.make_graph([], "then", [], [port("w", FLOAT, [500])], [weight]),
        "else_branch": helper.make_graph(
            [helper.make_node("Neg", ["onnxpress_weight_0"], ["e"])], "else", [], [port("e", FLOAT, [500])]
        ),
    }
    subject = model(
        [
            helper.make_node("Relu", ["x"], ["onnxpress_weight_0"]),
            helper.make_node("If", ["which"], ["y"], **branches),
        ],
        [port("x", FLOAT, [500]), port("which", BOOL, [])],
        [port("y", FLOAT, [500])],
    )
    session = LIFTED.prepare(subject)
    for which in (True, False):
        feed = {"x": np.ones(500, np.float32), "which": np.array(which)}
        want = np.arange(500) if which else -np.ones(500)
        assert np.array_equal(session.run(feed)["y"], want)


def test_external_data_without_a_folder_come_from_memory(external: External) -> None:
    subject = load_model(external())
    feed = {"x": np.ones((1, 4000), np.float32)}
    want = INLINE.prepare(subject).run(feed)
    subject.path = None
    assert identical(INLINE.prepare(subject).run(feed), want)
    assert identical(LIFTED.prepare(subject).run(feed), want)


def test_small_external_tensors_are_known_to_shape_inference(tmp_path: Path) -> None:
    proto = emit(
        model([helper.make_node("Reshape", ["x", "shape"], ["y"])], [port("x", FLOAT, [6])], [port("y", FLOAT, None)],
              {"shape": np.array([2, 3])})
    )  # fmt: skip
    shape = proto.graph.initializer[0]
    (tmp_path / "shape.bin").write_bytes(shape.raw_data)
    shape.ClearField("raw_data")
    shape.data_location = TensorProto.EXTERNAL
    shape.external_data.add(key="location", value="shape.bin")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    session = default_backend().prepare(load_model(tmp_path / "m.onnx"))
    assert session.outputs == (Port("y", FLOAT, (2, 3)),)


@pytest.mark.parametrize("name", ["int4", "uint4", "bfloat16", "float8_e4m3fn", "int8", "float16"])
def test_lifted_weights_of_every_width(name: str) -> None:
    levels = (np.arange(3001) % 7).astype(name)
    node = helper.make_node("Cast", ["w"], ["y"], to=FLOAT)
    if name.endswith("int4"):
        node = helper.make_node("DequantizeLinear", ["w", "one"], ["y"])
    subject = model([node], [], [port("y", FLOAT, None)], {"w": levels, "one": np.float32(1)})
    assert subject.graph.initializers[0].tensor is not None
    assert subject.graph.initializers[0].tensor.numpy().dtype == levels.dtype
    assert np.array_equal(LIFTED.prepare(subject).run({})["y"], np.arange(3001) % 7)


def test_more_than_two_gigabytes(tmp_path: Path) -> None:
    rows = 9_000_000
    with (tmp_path / "table.bin").open("wb") as file:
        file.truncate(rows * 256)
        file.seek((rows - 1) * 256)
        file.write(np.ones(64, np.float32).tobytes())
    table = TensorProto(name="table", data_type=FLOAT, dims=[rows, 64], data_location=TensorProto.EXTERNAL)
    table.external_data.add(key="location", value="table.bin")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "rows"], ["y"])],
        "big",
        [port("rows", INT64, ["n"])],
        [port("y", FLOAT, None)],
        [table],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    subject = load_model(tmp_path / "m.onnx")
    for optimize in (False, True):
        found = default_backend().prepare(subject, optimize=optimize).run({"rows": np.array([0, rows - 1])})
        assert found["y"].sum() == 64
    saved = save_model(subject, tmp_path / "m.onnx", in_place=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert saved.bytes_data == rows * 256 > 2**31
    assert grown < 200_000, f"{grown} kB of memory for a model whose weights nobody needs to hold"
