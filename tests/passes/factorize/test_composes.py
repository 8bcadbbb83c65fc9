"""Factors are layers like others to the passes behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import onnxpress

from .layers import low, model


@pytest.mark.parametrize("mode", ["weight-only", "static", "dynamic"])
def test_both_factors_are_quantized(mode: str) -> None:
    random = np.random.default_rng(0)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": low(96, 80, 6)}, [8, 96], 2)
    feeds: list[dict[str, Any]] = [{"x": random.standard_normal((8, 96)).astype(np.float32)} for _ in range(8)]
    settings = "" if mode == "weight-only" else " latency=off error=1"
    made = onnxpress.load(proto)
    pipeline = f"factorize{{rank=6}},quantize-insert{{mode={mode}{settings}}}"
    onnxpress.PassManager(pipeline, measure=False).run(made, data=feeds)
    held = [value.const.numpy() for value in made.graph.values() if value.const is not None]
    assert sorted(each.size for each in held if each.dtype in (np.int8, np.uint8) and each.size > 96) == [480, 576]
    assert onnxpress.compare(proto, made, data=feeds).worst["rel-l2"].value < 0.05
