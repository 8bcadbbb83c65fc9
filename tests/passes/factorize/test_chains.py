"""Factors of a convolution are factorized anew, not nested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxpress.ir import emit

from .layers import model
from .test_layers import close, factorized, of_rank, ranks, run

SETTINGS: dict[str, Any] = {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}
CONVOLUTIONS = {"svd": 2, "spatial": 2, "tucker": 3, "cp": 4}


@pytest.mark.parametrize("method", ["svd", "spatial", "tucker"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("settings", [SETTINGS, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {}])
def test_a_chain_of_too_many_ranks_comes_down_to_those_it_has(method: str, groups: int, settings: Any) -> None:
    random = np.random.default_rng(0)
    weight = of_rank(method, (groups, 8, 7, 3, 3), random).reshape(groups * 8, 7, 3, 3).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=groups, **settings)
    arrays = {"w": weight, "b": np.ones(groups * 8, np.float32)}
    proto = model([node], arrays, [2, groups * 7, 9, 8], 4)
    wide, _ = factorized(proto, f"methods=[{method}] rank=3 share=1")
    assert len(list(wide.graph.nodes)) == CONVOLUTIONS[method]
    made, report = factorized(emit(wide), f"methods=[{method}] share=1")
    assert ranks(report) == [f"{method} {'1 1' if method == 'tucker' else 1}"]
    assert len(list(made.graph.nodes)) == CONVOLUTIONS[method]
    close(proto, made, random.standard_normal((2, groups * 7, 9, 8)).astype(np.float32))
    assert not factorized(emit(made), f"methods=[{method}] share=1")[1].changed


def test_terms_of_rank_one_are_factorized_anew_with_data() -> None:
    random = np.random.default_rng(0)
    weight = np.einsum("nr,cr,ar,br->ncab", *(random.standard_normal((size, 2)) for size in (16, 12, 3, 3)))
    held = {"w": weight.astype(np.float32)}
    proto = model([helper.make_node("Conv", ["x", "w"], ["y"], **SETTINGS)], held, [2, 12, 9, 8], 4)
    feeds = [{"x": random.standard_normal((2, 12, 9, 8)).astype(np.float32)} for _ in range(4)]
    wide, _ = factorized(proto, "methods=[cp] rank=8 share=1")
    made, report = factorized(emit(wide), "methods=[cp] macs=0.7 latency=any", feeds)
    assert [name.split()[0] for name in ranks(report)] == ["cp"]
    assert [node.op_type for node in made.graph.nodes] == ["Conv"] * 4
    assert report.after.cost.parameters < report.before.cost.parameters
    before, after = (run(emit(each), feeds[0]["x"]) for each in (wide, made))
    assert np.linalg.norm(after - before) < 0.05 * np.linalg.norm(before)


def test_what_is_no_chain_stays_apart() -> None:
    """A bias, a stride or an activation between makes two layers of two."""
    random = np.random.default_rng(0)
    arrays = {"v": random.standard_normal((6, 8, 3, 1)), "w": random.standard_normal((8, 6, 1, 3)), "b": np.ones(6)}
    held = {name: array.astype(np.float32) for name, array in arrays.items()}
    last = helper.make_node("Conv", ["h", "w"], ["y"])
    for between in (
        [helper.make_node("Conv", ["x", "v", "b"], ["h"])],
        [helper.make_node("Conv", ["x", "v"], ["h"], strides=[1, 2])],
        [helper.make_node("Conv", ["x", "v"], ["g"]), helper.make_node("Relu", ["g"], ["h"])],
    ):
        _, report = factorized(model([*between, last], held, [1, 8, 9, 9], 4), "rank=1 share=1")
        assert all(row.layer in ("v", "w") for row in report.layers)
    (row,) = factorized(model([helper.make_node("Conv", ["x", "v"], ["h"]), last], held, [1, 8, 9, 9], 4))[1].layers
    assert row.cells["break_even"] == 8 * 9 * 8 // (8 * 9 + 8)
