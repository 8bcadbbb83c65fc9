"""Masks of what is no linear layer: the recurrence of LSTM, GRU and RNN, and tables that Gather reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import Model
from onnxpress.passes.prune.masks.layers import RECURRENT, Recurrence, maskable_layers
from onnxpress.passes.prune.prune import Prune
from onnxpress.specs.check import check_pass

HIDDEN = 6
RNG = np.random.default_rng(0)
SAMPLES = [{"x": RNG.integers(0, 20, size=(5, 2))} for _ in range(30)]


def network(kind: str, ways: int = 1, reads: str = "Y") -> ModelProto:
    """Rows of a table, through a recurrent layer of one direction or two, of which all states or the last are read."""
    random = np.random.default_rng(0)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind] * HIDDEN
    shapes = {"table": (20, 8), "W": (ways, gates, 8), "R": (ways, gates, HIDDEN), "V": (HIDDEN, 3)}
    names = ["Y", ""] if reads == "Y" else ["", "Y_h"]
    direction = "bidirectional" if ways == 2 else "forward"
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["rows"]),
        helper.make_node(kind, ["rows", "W", "R"], names, hidden_size=HIDDEN, direction=direction),
        helper.make_node("MatMul", [reads, "V"], ["y"]),
    ]
    held = [
        numpy_helper.from_array((0.5 * random.normal(size=shape)).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    x = helper.make_tensor_value_info("x", TensorProto.INT64, [5, 2])
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", 1, None)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(options: str, proto: ModelProto, data: Any = None) -> tuple[Model, Any]:
    model = onnxpress.load(proto)
    return model, onnxpress.PassManager(f"prune{{{options}}}", measure=False).run(model, data=data)


def zeros(model: Model) -> dict[str, float]:
    held = {value.name: value.const.numpy() for value in model.graph.initializers if value.const is not None}
    return {name: float((array == 0).mean()) for name, array in held.items()}


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_as_much_of_the_recurrence_is_zero_as_was_asked_for(kind: str, criterion: str) -> None:
    data = SAMPLES if criterion == "obs" else None
    model, _ = run(f"unit=weight sparsity=0.5 criterion={criterion}", network(kind), data)
    assert zeros(model) == {"table": 0, "W": 0.5, "R": 0.5, "V": 0.5}


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("reads", ["Y", "Y_h"])
def test_rows_are_states(ways: int, reads: str) -> None:
    layers = maskable_layers(onnxpress.load(network("RNN", ways, reads)), tables=False)
    found = next(layer for layer in layers if isinstance(layer, Recurrence))
    assert found.x.name == reads
    states = np.arange(5 * ways * 2 * HIDDEN).reshape(5, ways, 2, HIDDEN)
    states = states if reads == "Y" else states[-1]
    rows = found.rows(states)
    assert rows.shape == (ways, states.size // ways // HIDDEN, HIDDEN)
    assert (rows[-1][-1] == states[..., -1, -1, :].reshape(-1, HIDDEN)[-1]).all()


def test_the_recurrence_is_adjusted_to_its_states() -> None:
    lost = {}
    for options in ("criterion=l1 repair=off", "criterion=obs"):
        found, _ = run(f"unit=weight sparsity=0.5 exclude=[W V] {options}", network("GRU"), SAMPLES)
        reference = onnxpress.load(network("GRU"))
        lost[options] = onnxpress.compare(reference, found, data=SAMPLES).worst["rel-l2"].value
    assert lost["criterion=obs"] < lost["criterion=l1 repair=off"]


@pytest.mark.parametrize("criterion", ["l1", "wanda", "obs"])
@pytest.mark.parametrize("allocation", ["layer", "global"])
def test_tables_get_a_mask_on_request_by_magnitude(criterion: str, allocation: str) -> None:
    data = None if criterion == "l1" else SAMPLES
    model, report = run(
        f"unit=weight sparsity=0.5 criterion={criterion} allocation={allocation} tables", network("LSTM"), data
    )
    found = zeros(model)["table"]
    assert found == 0.5 if allocation == "layer" else found > 0.2
    before = numpy_helper.to_array(network("LSTM").graph.initializer[0])
    after = next(v.const.numpy() for v in model.graph.initializers if v.name == "table" and v.const is not None)
    if criterion != "wanda":
        assert np.abs(before[after == 0]).max() <= np.abs(before[after != 0]).min()
    assert (after[after != 0] == before[after != 0]).all()
    assert {bound.form for bound in report.bounds if bound.value == "rows"} == {"table"}
    assert any("magnitudes decide" in remark.reason for remark in report.remarks) == (criterion != "l1")


@pytest.mark.parametrize("ways", [1, 2])
def test_bounds_hold(ways: int) -> None:
    masking = st.builds(
        Prune,
        unit=st.sampled_from(("weight", "block")),
        sparsity=st.sampled_from((0.3, 0.7)),
        criterion=st.sampled_from(("l1", "wanda", "obs")),
        tables=st.booleans(),
    )
    models = st.builds(network, st.sampled_from(RECURRENT), st.just(ways), st.sampled_from(("Y", "Y_h")))
    checked = check_pass(masking, models=models, max_examples=8)
    assert checked.changed > 4
    assert checked.judged > 4


@pytest.mark.parametrize("unit", ["n:m", "channel sparsity=0.5", "layer sparsity=0.5"])
def test_tables_are_for_weights_and_blocks(unit: str) -> None:
    with pytest.raises(UserError, match="tables is for weights and blocks"):
        run(f"unit={unit} tables", network("LSTM"))
