"""A budget of bytes and an error that is allowed, on real models."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

import onnxpress
from onnxpress.ir.dtypes import is_float
from onnxpress.passes.quantize.weight_only import held_constants

from .conftest import published_model
from .runs import feeds_of, session

BUDGET = 0.4


def test_files_are_no_larger_than_the_budget_says(real_model: Any) -> None:
    """What is no float constant comes on top; names and nodes that decode are in the budget, as they mostly are."""
    model = onnxpress.load(real_model.path)
    onnxpress.PassManager("fold,dce", measure=False).run(model)
    before = onnxpress.ir.emit(model).ByteSize()
    floats = {id(one): one.nbytes for _, _, one in held_constants(model) if is_float(one.dtype)}
    half = sum(one.nbytes for _, _, one in held_constants(model) if one.dtype == onnx.TensorProto.FLOAT16)
    budget = BUDGET if half < sum(floats.values()) / 2 else 2 * BUDGET
    report = onnxpress.PassManager(f"quantize-insert{{budget={budget}}}", measure=False).run(model)
    made = onnxpress.ir.emit(model)
    onnx.checker.check_model(made)
    assert made.ByteSize() <= before - (1 - budget) * sum(floats.values())
    assert len({row.cells["type"] for row in report.layers}) > 1
    (feed, *_) = feeds_of(real_model)
    after = session(made.SerializeToString(), optimize=True).run(None, feed)
    assert all(np.isfinite(output).all() for output in after if output.dtype.kind == "f")


def test_what_static_mode_stores_keeps_the_error() -> None:
    """On noise, int8 throughout costs this network more than .05; two weights in more bits mend that."""
    path = published_model("silero_vad")
    rng = np.random.default_rng(0)
    feeds = [
        {
            "input": rng.uniform(-1, 1, (1, 576)).astype(np.float32),
            "state": rng.uniform(-1, 1, (2, 1, 128)).astype(np.float32),
            "sr": np.array(16000),
        }
        for _ in range(8)
    ]
    model = onnxpress.load(path)
    report = onnxpress.PassManager("simplify,quantize-insert{mode=static error=0.02}", measure=False).run(
        model, data=feeds
    )
    made = onnxpress.ir.emit(model).SerializeToString()
    assert len(made) < 0.35 * path.stat().st_size
    assert {"int8", "int16"} <= {row.cells["type"] for row in report.layers}
    old, new = session(path.read_bytes(), optimize=True), session(made, optimize=True)
    for index in range(2):
        pairs = [(old.run(None, feed)[index], new.run(None, feed)[index]) for feed in feeds]
        off = sum(float(np.square(a - b).sum()) for a, b in pairs)
        assert off <= 0.02**2 * sum(float(np.square(a).sum()) for a, _ in pairs) * (1 + 1e-6)
