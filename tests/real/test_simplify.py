"""The pipeline `simplify` on real models: fewer nodes than any other simplifier leaves, and the same function."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import onnxpress
from onnxpress.backends.metrics import measure

from .runs import feeds_of, outputs_of, session

BEST = {
    "ppocr4_det": 297,
    "ppocr4_rec": 383,
    "ppocr_cls": 179,
    "magika": 93,
    "silero_vad": 116,
    "silero_vad_op15": 60,
    "silero_vad_half": 57,
    "minilm/model": 260,
    "nudenet": 316,
    "resnet_bn": 32,
}
"""The fewest nodes that onnxsim, OnnxSlim, onnxscript or onnxruntime's basic optimization leave."""
OPERATORS = {"ppocr4_det": 297, "ppocr4_rec": 353, "ppocr_cls": 155, "minilm/model": 225}
"""The same with onnxruntime's extended optimization, which has operators of its own."""


@pytest.mark.parametrize(("pipeline_name", "limits"), [("simplify", BEST), ("simplify-operators", OPERATORS)])
def test_result_is_valid_no_larger_and_of_few_nodes(
    real_model: Any, compressed_by: Any, pipeline_name: str, limits: dict[str, int]
) -> None:
    result = compressed_by(pipeline_name)
    onnx.checker.check_model(result.after, full_check=True)
    assert len(result.after_bytes) <= result.before.ByteSize()
    cost = result.report.after.cost
    assert cost.nodes <= min(result.report.before.cost.nodes, limits.get(real_model.name, cost.nodes))


@pytest.mark.parametrize("pipeline_name", ["simplify", "simplify-operators"])
def test_a_second_run_changes_nothing(real_model: Any, compressed_by: Any, pipeline_name: str) -> None:
    again = onnxpress.load(compressed_by(pipeline_name).after)
    report = onnxpress.PassManager(pipeline_name, measure=False).run(again)
    assert [step.text for step in report.steps if step.changed] == []


@pytest.mark.parametrize("optimize", [False, True])
def test_outputs_are_as_near_as_rounding(real_model: Any, compressed_by: Any, optimize: bool) -> None:
    after = session(compressed_by("simplify").after_bytes, optimize=optimize)
    for feed, expected in zip(feeds_of(real_model), outputs_of(real_model, optimize=optimize), strict=True):
        for a, b in zip(expected, after.run(None, feed), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            error = measure(a, b)
            assert error["rel-l2"] <= 2e-5 or error["max-abs"] <= 2e-5
            assert not np.isnan(error["rel-l2"])
