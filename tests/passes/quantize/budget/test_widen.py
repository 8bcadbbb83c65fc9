"""An error of the outputs that is allowed: weights that cost more get more bits."""

import numpy as np
import pytest

from onnxpress.errors import UserError
from onnxpress.passes.manager.weights import Reason

from .test_budget import LOUD, QUIET, SMALL, TEXT, constant_bytes, error, rows, run


@pytest.fixture
def two(model):
    return model(TEXT, loud=LOUD, quiet=QUIET, small=SMALL)


def said(report):
    return " ".join(remark.reason for remark in report.remarks if remark.rule == "error")


def test_within_the_error_nothing_changes(two):
    plain, _ = run(two, type="int8")
    after, report = run(two, type="int8", error=0.1)
    assert after == plain
    assert "weights as asked for" in said(report)
    assert not rows(report)


@pytest.mark.parametrize("limit", [0.1, 0.03, 3e-3, 3e-5, 0.0])
@pytest.mark.parametrize("kind", ["int2", "int4", "int8", "uint8", "float8e4m3fn"])
def test_the_error_is_kept(two, kind, limit):
    after, report = run(two, type=kind, error=limit)
    assert error(two, after) <= limit * (1 + 1e-6)
    assert f"{limit:g} allowed" in said(report)


def test_only_what_costs_gets_more_bits(two):
    after, report = run(two, type="int4", error=0.02)
    assert rows(report)["main/quiet"]["type"].startswith("int4")
    assert rows(report)["main/loud"]["type"] == "int8"
    assert constant_bytes(after) < constant_bytes(run(two, type="int8")[0])


def test_books_are_followed_by_integers(two):
    _, report = run(two, type="int4", levels="kmeans", error=0.02)
    assert rows(report)["main/quiet"]["type"].startswith("k-means")
    assert rows(report)["main/loud"]["type"] == "int8"


def test_nothing_allowed_is_nothing_changed(two):
    after, report = run(two, error=0.0)
    assert after == two
    assert {entry.reason for entry in report.weights if entry.nbytes > 1000} == {Reason.PRECISION}


def test_without_data_it_is_a_mistake(two):
    with pytest.raises(UserError, match="error needs sample data"):
        run(two, data=None, error=0.1)


def test_what_static_mode_stores_answers_for_the_error_too(model):
    """An LSTM that the target computes in float: its weights are stored, and in more bits where that is needed."""
    text = "g (float[N,1,16] x) => (float[N,1,1,12] y) { y = LSTM<hidden_size=12>(x, w, r) }"
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((1, 48, 16)), "r": rng.standard_normal((1, 48, 12))}
    proto = model(text, **{name: each.astype(np.float32) for name, each in weights.items()})
    data = [{"x": rng.standard_normal((20, 1, 16)).astype(np.float32)} for _ in range(8)]
    plain, _ = run(proto, data=data)
    limit = float(error(proto, plain, data)) / 4
    after, report = run(proto, data=data, mode="static", error=limit)
    assert error(proto, after, data) <= limit
    assert "int16" in {cells["type"] for cells in rows(report).values()} | {"int8 in blocks of 32"}


def test_what_is_stored_and_what_runs_in_integers_answer_together(model):
    """Each costs less than is allowed, both together more: so what is only stored gets more bits."""
    text = "g (float[N,1,16] x) => (float[N,1,1,12] y) { h = MatMul(x, m) y = LSTM<hidden_size=12>(h, w, r) }"
    rng = np.random.default_rng(0)
    shapes = {"m": (16, 16), "w": (1, 48, 16), "r": (1, 48, 12)}
    proto = model(text, **{name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
    data = [{"x": rng.standard_normal((20, 1, 16)).astype(np.float32)} for _ in range(8)]
    as_measured = {"mode": "static", "latency": "off", "rounding": "nearest", "bias_correction": "false"}
    both, _ = run(proto, data=data, error=1.0, **as_measured)
    stored, _ = run(proto, data=data, error=1.0, exclude=("m",), **as_measured)
    integers, _ = run(proto, data=data, error=1.0, exclude=("w", "r"), **as_measured)
    limit = 0.95 * float(error(proto, both, data))
    assert max(error(proto, stored, data), error(proto, integers, data)) < limit
    after, report = run(proto, data=data, error=limit, **as_measured)
    assert "MatMul" in {node.op_type for node in after.graph.node}
    assert "QuantizeLinear" in {node.op_type for node in after.graph.node}
    assert "more bits" in said(report)
    assert error(proto, after, data) <= limit


def test_a_sample_with_large_outputs_does_not_hide_the_others(model):
    """One of eight samples is a thousand times as large, and exact in four bits; the others are not."""
    text = "g (float[N,64] a, float[N,64] b) => (float[N,64] y) { c = MatMul(a, m) d = MatMul(b, n) y = Add(c, d) }"
    rng = np.random.default_rng(0)
    exact = rng.integers(-8, 8, (64, 64)).astype(np.float32) / 8
    exact[::32] = -1  # in each block of 32
    proto = model(text, m=exact, n=rng.standard_normal((64, 64)).astype(np.float32))
    small, none = rng.standard_normal((8, 4, 64)).astype(np.float32), np.zeros((4, 64), np.float32)
    data = [{"a": none, "b": each} for each in small[1:]] + [{"a": 1000 * small[0], "b": none}]
    plain, _ = run(proto, data=data, type="int4")
    assert error(proto, plain, data) < 0.01
    assert error(proto, plain, data[:-1]) > 0.05
    after, report = run(proto, data=data, type="int4", error=0.05)
    assert rows(report)["main/n"]["type"] != "int4"
    assert error(proto, after, data[:-1]) < 0.05
