"""`quantize-insert{mode=static}` and `{mode=dynamic}` on real models: valid, loads, runs, near, no larger than asked
for, and what computes in float is stored in 8 bits all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import checker

import onnxpress
from onnxpress.ir import emit

from .runs import feeds_of, outputs_of, session

LARGEST = 0.36
"""Of the bytes of the input; .35 for files of any size, and a little for the names in small ones."""

NOTHING = 1e-6
"""What an output is off by on the mean that is nothing: a detector finds no text in noise."""


@pytest.mark.parametrize("mode", ["static", "static format=qoperator", "dynamic"])
def test_real_models_run_in_integers(real_model: Any, compressed_by: Any, mode: str) -> None:
    feeds, simple = feeds_of(real_model), compressed_by("simplify")
    text = f"quantize-insert{{mode={mode} error=0.5 rounding=nearest clip=none bias-correction=false}}"
    model = onnxpress.load(simple.after)
    report = onnxpress.PassManager(text, measure=False).run(model, data=feeds)
    made = emit(model)
    checker.check_model(made, full_check=True)
    data = made.SerializeToString()
    assert len(data) <= LARGEST * real_model.path.stat().st_size
    new = session(data, True)
    off = size = 0.0
    count = 0
    for feed, expected in zip(feeds, outputs_of(real_model, optimize=True), strict=True):
        for y, found in zip(expected, new.run(None, feed), strict=True):
            assert y.shape == found.shape
            count += y.size
            off, size = off + float(np.square(y - found).sum()), size + float(np.square(y.astype(float)).sum())
    assert off <= max(0.55**2 * size, NOTHING**2 * count)
    assert [info.name for info in made.graph.output] == [info.name for info in simple.before.graph.output]
    told = [remark.reason for remark in report.remarks if "MACs run in integers" in remark.reason]
    assert len(told) == 1
    again = onnxpress.PassManager(text, measure=False).run(model, data=feeds)
    assert not again.changed, "a second run"
