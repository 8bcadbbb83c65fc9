"""`quantize-insert{mode=static}` and `{mode=dynamic}` on real models: valid, loads, runs, near, no larger than asked
for, and what computes in float is stored in 8 bits all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import checker

import onnxpress
from onnxpress.ir import emit

from .test_compressed import feeds_of, session

LARGEST = 0.36
"""Of the bytes of the input; .35 for files of any size, and a little for the names in small ones."""

NOTHING = 1e-6
"""What an output is off by on the mean that is nothing: a detector finds no text in noise."""


@pytest.mark.parametrize("mode", ["static", "static format=qoperator", "dynamic"])
def test_real_models_run_in_integers(real_model: Any, mode: str) -> None:
    before = real_model.load()
    feeds = list(feeds_of(real_model, before))
    text = f"simplify,quantize-insert{{mode={mode} error=0.5 rounding=nearest clip=none bias-correction=false}}"
    model = onnxpress.load(before)
    report = onnxpress.PassManager(text, measure=False).run(model, data=feeds)
    made = emit(model)
    checker.check_model(made, full_check=True)
    data = made.SerializeToString()
    assert len(data) <= LARGEST * real_model.path.stat().st_size
    old, new = session(before.SerializeToString(), True), session(data, True)
    off = size = 0.0
    count = 0
    for feed in feeds:
        for y, found in zip(old.run(None, feed), new.run(None, feed), strict=True):
            assert y.shape == found.shape
            count += y.size
            off, size = off + float(np.square(y - found).sum()), size + float(np.square(y.astype(float)).sum())
    assert off <= max(0.55**2 * size, NOTHING**2 * count)
    assert [info.name for info in made.graph.output] == [info.name for info in before.graph.output]
    told = [remark.reason for remark in report.remarks if "MACs run in integers" in remark.reason]
    assert len(told) == 1
    again = onnxpress.PassManager(text.partition(",")[2], measure=False).run(model, data=feeds)
    assert not again.changed, "a second run"
