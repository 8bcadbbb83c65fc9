"""What is not faster stays: by the clock, or by the estimate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxpress.passes.factorize import run

from .layers import low, model
from .test_layers import factorized, ranks


def product(k: int, n: int, rows: int, rank: int) -> tuple[Any, list[dict[str, Any]]]:
    random = np.random.default_rng(0)
    weight = low(k, n, rank) + 1e-3 * random.standard_normal((k, n)).astype(np.float32)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, [rows, k], 2)
    return proto, [{"x": random.standard_normal((rows, k)).astype(np.float32)} for _ in range(4)]


@pytest.mark.parametrize("goal", ["rank=8", "macs=0.5", "error=0.1"])
def test_a_large_product_of_low_rank_is_faster_by_the_clock(goal: str) -> None:
    proto, feeds = product(1024, 1024, 64, 8)
    _, report = factorized(proto, f"{goal} latency=measure", feeds)
    assert ranks(report)


@pytest.mark.parametrize("goal", ["rank=8", "macs=0.5", "error=0.1"])
def test_what_is_slower_by_the_clock_stays_and_is_told(goal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "layer_ratio", lambda *_: 1.25)
    proto, feeds = product(256, 256, 8, 8)
    _, report = factorized(proto, f"{goal} latency=measure", feeds)
    assert not report.changed
    (row,) = report.layers
    assert "faster" in str(row.cells["why"]) or "1.25 of the time" in str(row.cells["why"])


def test_what_cannot_be_timed_alone_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "layer_ratio", lambda *_: None)
    proto, feeds = product(256, 256, 8, 8)
    assert ranks(factorized(proto, "rank=8 latency=measure", feeds)[1])


def test_by_the_estimate_two_small_products_are_slower_than_one() -> None:
    proto, feeds = product(48, 48, 2, 8)
    _, report = factorized(proto, "macs=0.5", feeds)
    assert not report.changed
    assert "by the estimate" in str(report.layers[0].cells["why"])
    assert ranks(factorized(proto, "macs=0.5 latency=any", feeds)[1])


def test_no_factor_holds_numbers_that_are_slow() -> None:
    """Of a channel that training has let die: what is near the end of the type's range runs several times slower."""
    weight = low(64, 48, 4)
    weight[:, 5] *= 1e-36
    weight[3] *= 1e-39
    made, report = factorized(model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, [2, 64], 2))
    assert ranks(report) == ["svd 4"]
    for value in made.graph.values():
        if value.const is not None:
            sizes = np.abs(value.const.numpy())
            assert not ((sizes > 0) & (sizes < 1e-14 * sizes.max())).any()
