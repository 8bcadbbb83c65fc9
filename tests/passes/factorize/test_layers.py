"""Layers of low rank are found at their rank and give the same up to rounding; what is promised holds of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, checker, helper

import onnxpress
from onnxpress.ir import Model, emit

from .layers import low, model


def factorized(proto: ModelProto, options: str = "", data: Any = None) -> tuple[Model, Any]:
    made = onnxpress.load(proto)
    report = onnxpress.PassManager(f"factorize{{{options}}}" if options else "factorize", measure=False).run(
        made, data=data
    )
    checker.check_model(emit(made), full_check=True)
    return made, report


def run(source: Any, x: Any) -> Any:
    from onnxpress.backends.ort import OrtBackend

    return next(iter(OrtBackend().prepare(onnxpress.load(source)).run({"x": x}).values()))


def ranks(report: Any) -> list[str]:
    return [f"{row.cells['method']} {row.cells['rank']}" for row in report.layers if row.cells["kept"] == "factorized"]


def close(proto: ModelProto, made: Model, x: Any) -> None:
    before, after = run(proto, x), run(emit(made), x)
    assert before.shape == after.shape
    np.testing.assert_allclose(after, before, atol=2e-4 * max(1.0, float(np.abs(before).max())))


PRODUCTS = {
    "matmul": ([helper.make_node("MatMul", ["x", "w"], ["y"])], (24, 20), [2, 5, 24], 3),
    "matmul from the left": ([helper.make_node("MatMul", ["w", "x"], ["y"])], (20, 24), [2, 24, 5], 3),
    "gemm": ([helper.make_node("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0)], (24, 20), [5, 24], 2),
    "gemm transB": ([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], (20, 24), [5, 24], 2),
    "gemm transA": ([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transA=1)], (24, 20), [24, 5], 2),
    "gemm from the left": ([helper.make_node("Gemm", ["w", "x"], ["y"], transA=1, transB=1)], (24, 20), [5, 24], 2),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_of_low_rank_is_found(name: str) -> None:
    nodes, shape, x, rank = PRODUCTS[name]
    proto = model(nodes, {"w": low(*shape, 3), "b": np.arange(20, dtype=np.float32)}, x, rank)
    if "b" not in nodes[0].input:
        del proto.graph.initializer[1]
    made, report = factorized(proto)
    assert ranks(report) == ["svd 3"]
    assert report.after.cost.parameters < report.before.cost.parameters
    close(proto, made, np.random.default_rng(1).standard_normal(x).astype(np.float32))


@settings(max_examples=40)
@given(st.data())
def test_convolutions_of_every_setting(data: st.DataObject) -> None:
    """All methods; strides, dilations, pads, groups and automatic pads; 1, 2 and 3 spatial axes."""
    dims = data.draw(st.integers(1, 3))
    method = data.draw(st.sampled_from(["svd", "spatial", "tucker", "depthwise"] if dims > 1 else ["svd", "depthwise"]))
    kernel = [data.draw(st.integers(2, 3)) for _ in range(dims)]
    g = data.draw(st.integers(1, 2))
    n, c = data.draw(st.integers(6, 8)), data.draw(st.integers(5, 7))
    settings_: dict[str, Any] = {"group": g, "dilations": [data.draw(st.integers(1, 2)) for _ in range(dims)]}
    settings_["strides"] = [data.draw(st.integers(1, 2)) for _ in range(dims)]
    if data.draw(st.booleans()):
        settings_["pads"] = [data.draw(st.integers(0, 2)) for _ in range(2 * dims)]
    elif settings_["dilations"] == [1] * dims:
        settings_["auto_pad"] = data.draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (g, n, c, kernel[0], int(np.prod(kernel[1:])))
    weight = of_rank(method, shape, random).reshape(g * n, c, *kernel).astype(np.float32)
    has_bias = data.draw(st.booleans())
    arrays = {"w": weight, **({"b": np.ones(g * n, np.float32)} if has_bias else {})}
    node = helper.make_node("Conv", ["x", *arrays], ["y"], **settings_)
    sizes = [1, g * c, *[data.draw(st.integers(6, 9)) for _ in range(dims)]]
    proto = model([node], arrays, sizes, dims + 2)
    made, report = factorized(proto, f"methods=[{method}] share=1")
    assert ranks(report) == [f"{method} {'1 1' if method == 'tucker' else 1}"]
    close(proto, made, random.standard_normal(sizes).astype(np.float32))


def of_rank(method: str, shape: tuple[int, ...], random: Any) -> Any:
    g, n, c, a, b = shape

    def draw(*size: int) -> Any:
        return random.standard_normal(size)

    match method:
        case "svd":
            return np.einsum("gcab,gn->gncab", draw(g, c, a, b), draw(g, n))
        case "spatial":
            return np.einsum("gca,gnb->gncab", draw(g, c, a), draw(g, n, b))
        case "tucker":
            return np.einsum("gc,gab,gn->gncab", draw(g, c), draw(g, a, b), draw(g, n))
    return np.einsum("gcab,gnc->gncab", draw(g, c, a, b), draw(g, n, c))


def test_terms_of_rank_one() -> None:
    random = np.random.default_rng(0)
    weight = np.einsum("nr,cr,ar,br->ncab", *(random.standard_normal((size, 2)) for size in (8, 7, 3, 3)))
    settings_ = {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}
    node = helper.make_node("Conv", ["x", "w"], ["y"], **settings_)
    proto = model([node], {"w": weight.astype(np.float32)}, [2, 7, 9, 8], 4)
    made, report = factorized(proto, "methods=[cp] rank=2")
    assert ranks(report) == ["cp 2"]
    x = random.standard_normal((2, 7, 9, 8)).astype(np.float32)
    before, after = run(proto, x), run(emit(made), x)
    assert np.linalg.norm(after - before) < 0.02 * np.linalg.norm(before)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(groups: int) -> None:
    weight = np.concatenate([low(8, 6 * 9, 2, seed) for seed in range(groups)]).reshape(8 * groups, 6, 3, 3)
    node = helper.make_node(
        "ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 2], pads=[1, 1, 0, 1], output_padding=[1, 0], group=groups
    )
    proto = model([node], {"w": weight, "b": np.ones(6 * groups, np.float32)}, [1, 8 * groups, 5, 4], 4)
    made, report = factorized(proto)
    assert ranks(report) == ["svd 2"]
    close(proto, made, np.random.default_rng(0).standard_normal((1, 8 * groups, 5, 4)).astype(np.float32))


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_input_matrices_of_recurrent_layers(op: str, gates: int, directions: int) -> None:
    hidden = 12 // gates
    weight = low(40, directions * gates * hidden, 2).T.reshape(directions, gates * hidden, 40)
    again = np.random.default_rng(0).standard_normal((directions, gates * hidden, hidden)).astype(np.float32) / 4
    settings_ = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else "forward"}
    node = helper.make_node(op, ["x", "w", "r"], ["y"], **settings_)
    proto = model([node], {"w": weight, "r": again}, [3, 2, 40], 4)
    made, report = factorized(proto)
    assert ranks(report) == ["svd 2"]
    close(proto, made, np.random.default_rng(0).standard_normal((3, 2, 40)).astype(np.float32))


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_states_move_by_no_more_than_two_can_differ(op: str, gates: int) -> None:
    random = np.random.default_rng(0)
    arrays = {
        "w": 3 * random.standard_normal((1, gates * 8, 40)),
        "r": random.standard_normal((1, gates * 8, 8)),
        "h0": 5 * random.standard_normal((1, 2, 8)),
    }
    node = helper.make_node(op, ["x", "w", "r", "", "", "h0"], ["y", "h"], hidden_size=8)
    proto = model([node], {name: array.astype(np.float32) for name, array in arrays.items()}, [3, 2, 40], 4)
    made, report = factorized(proto, "rank=1")
    assert {(bound.value, bound.form) for bound in report.bounds} == {("y", "state"), ("h", "state")}
    x = random.standard_normal((3, 2, 40)).astype(np.float32)
    change = np.abs(run(emit(made), x) - run(proto, x)).max()
    assert 0.5 < change <= 2 * max(1.0, np.abs(arrays["h0"]).max())
    del node.attribute[:]
    node.attribute.extend(
        helper.make_node(
            op, [], [], hidden_size=8, activations=["Relu"] * {"LSTM": 3, "GRU": 2, "RNN": 1}[op]
        ).attribute
    )
    _, report = factorized(model([node], arrays, [3, 2, 40], 4), "rank=1")
    assert not report.bounds


def test_tables() -> None:
    node = helper.make_node("Gather", ["w", "i"], ["z"])
    cast = helper.make_node("Cast", ["x"], ["i"], to=7)
    proto = model([cast, node, helper.make_node("Identity", ["z"], ["y"])], {"w": low(50, 20, 3)}, [2, 4], 3)
    made, report = factorized(proto)
    assert ranks(report) == ["svd 3"]
    close(proto, made, np.array([[0, 1, 49, -1], [5, 6, 7, 8]], np.float32))


@settings(max_examples=25)
@given(st.integers(4, 12), st.integers(4, 12), st.integers(1, 3), st.integers(0, 99))
def test_bounds_hold_and_the_spectral_one_is_the_next_singular_value(k: int, n: int, rank: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_normal((k, n)).astype(np.float32)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, [6, k], 2)
    made, report = factorized(proto, f"rank={rank} share=1")
    if not ranks(report):
        return
    (row,), (bound,) = report.layers, report.bounds
    sigma = float(row.cells["sigma_max"])
    np.testing.assert_allclose(
        sigma, np.linalg.svd(weight.astype(np.float64), compute_uv=False)[rank], rtol=1e-3, atol=1e-6
    )
    x = (random.standard_normal((6, k)) * 10.0 ** random.integers(-2, 3)).astype(np.float32)
    change = (run(emit(made), x) - run(proto, x)).astype(np.float64)
    slack = 1e-5 * float(np.abs(x).max()) * k * max(1.0, float(np.abs(weight).max()))
    assert (np.linalg.norm(change, axis=1) <= sigma * np.linalg.norm(x, axis=1) + slack).all()
    assert (np.abs(change) <= bound.per_channel * np.abs(x).max() + slack).all()


@settings(max_examples=20)
@given(st.integers(0, 99), st.sampled_from(["svd", "spatial", "tucker", "cp", "depthwise"]), st.integers(1, 2))
def test_bounds_hold_for_convolutions_with_data(seed: int, method: str, groups: int) -> None:
    """Per position against its patch, per channel against the largest input, both with what the bias is moved by."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((8 * groups, 7, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], group=groups)
    proto = model([node], {"w": weight}, [2, 7 * groups, 5, 5], 4)
    feeds = [{"x": (random.standard_normal((2, 7 * groups, 5, 5)) + 1).astype(np.float32)} for _ in range(4)]
    made, report = factorized(proto, f"methods=[{method}] rank=1", feeds)
    assert ranks(report)
    (row,) = report.layers
    x = feeds[0]["x"] * 3
    change = np.abs(run(emit(made), x).astype(np.float64) - run(proto, x))
    limit = sum(bound.per_channel * (np.abs(x).max() if bound.form == "linear" else 1.0) for bound in report.bounds)
    assert (change <= limit[None, :, None, None] + 1e-3).all()
    norms = np.linalg.norm(change, axis=1)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    patches = np.sqrt((windows**2).sum(axis=(1, 4, 5)))
    moved = np.linalg.norm(next((b.per_channel for b in report.bounds if b.form == "absolute"), np.zeros(1)))
    sigma = float(row.cells["sigma_max"])
    assert (norms <= sigma * patches * groups**0.5 + moved + 1e-3).all()
    assert np.linalg.norm(change) <= 3 * sigma * np.linalg.norm(x) + moved * change[:, 0].size ** 0.5 + 1e-2
