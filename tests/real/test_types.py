"""Every type of weight runs on every real model, and MatMulNBits finds every matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from onnxpress.passes.manager.weights import Outcome

from .conftest import Compressed, compress
from .runs import feeds_of, outputs_of, session
from .test_weights import Walk

CAST = (
    "type=uint8 symmetric=false",
    "type=int4",
    "type=uint4 symmetric=false",
    "type=int2",
    "type=int16",
    "type=float8e4m3fn",
    "type=int4 levels=nf4",
    "type=int4 levels=log2",
    "type=int4 levels=kmeans",
)
OTHERS = ("type=int4 format=nbits", "type=int4 form=dq", "type=uint8 symmetric=false form=dq")


def quantized(model: Any, options: str) -> Compressed:
    return compress.__wrapped__(model.name, model.path, f"fold,dce,quantize-insert{{{options}}}")


@pytest.mark.parametrize("options", [*CAST, *OTHERS])
def test_every_type_runs_on_every_model(options: str, real_model: Any) -> None:
    result = quantized(real_model, options)
    onnx.checker.check_model(result.after)
    assert any(entry.outcome is Outcome.QUANTIZED for entry in result.report.weights)
    for optimize in (False, True):
        after = session(result.after_bytes, optimize)
        for feed, expected in zip(feeds_of(real_model), outputs_of(real_model, optimize=False), strict=True):
            for a, b in zip(expected, after.run(None, feed), strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                assert not np.isfinite(a).all() or np.isfinite(b).all()


def test_matmulnbits_finds_every_matrix(real_model: Any) -> None:
    """No MatMul reads a float constant of 16 kB or more from its right any more, wherever that is hidden."""
    result = quantized(real_model, "type=int4 format=nbits")
    matmuls = [node for node in result.before.graph.node if node.op_type == "MatMul"]
    left = {node.input[1] for node in result.after.graph.node if node.op_type == "MatMul"}
    walk = Walk(result.before)
    large = {c.key.name for c in walk.constants if c.is_float and c.nbytes >= 1 << 14 and len(c.held.dims) == 2}
    found = [node for node in matmuls if (origin := walk.main.origin(node.input[1])) and origin.key.name in large]
    assert not [node.name for node in found if node.input[1] in left]
    made = sum(node.op_type == "MatMulNBits" for node in result.after.graph.node)
    assert made >= len(found)
