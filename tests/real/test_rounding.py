"""Rounding by outputs on real models: layers are found and err less, and the result loads and runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

import onnxpress

from .runs import feeds_of, session

PIPELINE = "fold,dce,quantize-insert{type=int4 rounding=gptq clip=none}"


def test_layers_err_less_than_with_nearest_rounding(real_model: Any) -> None:
    """The sample that judges, the second, is fitted as well: generated inputs have no more in common than chance."""
    first, second = feeds_of(real_model)
    feeds = [first, first, second]
    model = onnxpress.load(real_model.path)
    report = onnxpress.PassManager(PIPELINE, measure=False).run(model, data=feeds)
    rows = [row.cells for row in report.layers if row.by == "quantize-insert"]
    assert all(row["held-out error"] <= row["nearest's"] for row in rows)
    better = [row for row in rows if row["held-out error"] < row["nearest's"]]
    assert len(better) > len(rows) / 2 > 0
    made = onnxpress.ir.emit(model)
    onnx.checker.check_model(made)
    after = session(made.SerializeToString(), optimize=True)
    for feed in feeds:
        assert all(np.isfinite(output).all() for output in after.run(None, feed) if output.dtype.kind == "f")
