"""`prune{repair=statistics}`: normalizations give what they gave on average, channel by channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import Model
from onnxpress.passes.prune.prune import Prune
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional

RNG = np.random.default_rng(0)
SAMPLES = [{"x": RNG.normal(size=(4, 3, 6, 6)).astype(np.float32)} for _ in range(8)]


def network(dead: bool = False) -> ModelProto:
    """Conv, Relu, Conv, BatchNormalization (its output is the model's, too), Relu, Conv."""
    random = np.random.default_rng(1)
    arrays = {"A": random.normal(size=(16, 3, 3, 3)), "B": random.normal(size=(8, 16, 3, 3))}
    arrays |= {"C": random.normal(size=(4, 8, 1, 1)), "scale": random.uniform(0.5, 2, 8), "bias": random.normal(size=8)}
    arrays |= {"mean": random.normal(size=8), "var": random.uniform(50, 200, 8)}
    if dead:
        arrays["B"][0] = 0
    nodes = [
        helper.make_node("Conv", ["x", "A"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "B"], ["k"]),
        helper.make_node("BatchNormalization", ["k", "scale", "bias", "mean", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["s"]),
        helper.make_node("Conv", ["s", "C"], ["y"]),
    ]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in ("y", "n")]
    x = helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])
    graph = helper.make_graph(nodes, "g", [x], outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(options: str, proto: ModelProto, data: Any = SAMPLES) -> tuple[Model, Any]:
    model = onnxpress.load(proto)
    report = onnxpress.PassManager(f"prune{{{options}}}", measure=False).run(model, data=data)
    return model, report


def moments(model: Model) -> tuple[Any, Any]:
    """Mean and deviation of the channels of n on the sample data."""
    session = OrtBackend().prepare(model)
    values = np.concatenate([session.run(feed)["n"] for feed in SAMPLES])
    return values.mean(axis=(0, 2, 3)), values.std(axis=(0, 2, 3))


@pytest.mark.parametrize("dead", [False, True])
def test_means_and_deviations_are_those_of_before(dead: bool) -> None:
    proto = network(dead)
    mean, deviation = moments(onnxpress.load(proto))
    model, report = run("sparsity=0.5 repair=statistics", proto)
    np.testing.assert_allclose(moments(model)[0], mean, atol=1e-4)
    np.testing.assert_allclose(moments(model)[1], deviation, rtol=1e-3, atol=1e-6)
    plain, _ = run("sparsity=0.5 repair=off", proto)
    assert np.abs(moments(plain)[0] - mean).max() > 0.1
    assert any("1 normalizations" in remark.reason for remark in report.remarks)


def test_it_helps() -> None:
    lost = {
        repair: onnxpress.compare(
            onnxpress.load(network()), run(f"sparsity=0.5 repair={repair}", network())[0], data=SAMPLES
        )
        .worst["rel-l2"]
        .value
        for repair in ("off", "statistics")
    }
    assert lost["statistics"] < lost["off"]


def test_where_nothing_is_cut_statistics_stay() -> None:
    model, _ = run("sparsity=0.01 repair=statistics", network())
    before = {t.name: numpy_helper.to_array(t) for t in network().graph.initializer}
    for value in model.graph.initializers:
        if value.const is not None:
            np.testing.assert_allclose(value.const.numpy(), before[value.name], rtol=1e-6)


def test_bounds_hold() -> None:
    pruning = st.builds(
        Prune, sparsity=st.sampled_from((0.3, 0.6)), criterion=st.just("l1"), repair=st.just("statistics")
    )
    checked = check_pass(pruning, models=st.one_of(st.just(network()), convolutional()), max_examples=12)
    assert checked.changed > 4
    assert checked.judged > 4


@pytest.mark.parametrize(
    ("options", "data", "words"),
    [
        ("sparsity=0.5 repair=statistics", None, "repair=statistics needs sample data"),
        ("unit=weight sparsity=0.5 repair=statistics", SAMPLES, "is for channels and heads, not for unit=weight"),
        ("unit=layer sparsity=0.5 repair=statistics", SAMPLES, "is for channels and heads, not for unit=layer"),
    ],
)
def test_mistakes_are_told(options: str, data: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(options, network(), data)
