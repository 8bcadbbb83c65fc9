"""`float` on real models: valid, loads, runs, and takes half of the bytes of floats; what stays in float32 is listed.

The floats are counted by a walk over the messages that shares nothing with the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, TensorProto, numpy_helper

from onnxpress.passes.manager.weights import Outcome, Reason

from .runs import feeds_of, outputs_of, session

PIPELINES = ["float", "float{to=bfloat16}", "float{compute}"]
LISTED_FROM = 1000


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor of a graph and of the bodies in it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == AttributeProto.GRAPH:
                yield from tensors(attribute.g)


def floats(graph: GraphProto) -> list[int]:
    """The bytes of every float32 tensor."""
    return [numpy_helper.to_array(one).nbytes for one in tensors(graph) if one.data_type == TensorProto.FLOAT]


@pytest.mark.parametrize("text", PIPELINES)
def test_it_loads_runs_and_keeps_the_interface(text: str, real_model: Any, compressed_by: Any) -> None:
    result = compressed_by(text)
    onnx.checker.check_model(result.after, full_check=True)
    assert list(result.after.graph.input) == list(result.before.graph.input)
    assert list(result.after.graph.output) == list(result.before.graph.output)
    for optimize in (False, True):
        found = session(result.after_bytes, optimize)
        for feed, expected in zip(feeds_of(real_model), outputs_of(real_model, optimize=True), strict=True):
            for a, b in zip(expected, found.run(None, feed), strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                assert np.isfinite(b).all()


@pytest.mark.parametrize("text", PIPELINES)
def test_the_file_is_as_small_as_promised(text: str, compressed_by: Any) -> None:
    result = compressed_by(text)
    before = result.before.ByteSize()
    narrowed = sum(floats(result.before.graph))
    assert len(result.after_bytes) <= 1.02 * (narrowed / 2 + before - narrowed)


@pytest.mark.parametrize("text", PIPELINES)
def test_what_stays_in_float_is_listed(text: str, compressed_by: Any) -> None:
    result = compressed_by(text)
    kept = [e for e in result.report.weights if e.dtype == "float" and e.outcome is Outcome.KEPT]
    assert sorted(n for n in floats(result.after.graph) if n >= LISTED_FROM) == sorted(e.nbytes for e in kept)
    assert {entry.reason for entry in kept} <= {Reason.OUT_OF_RANGE, Reason.INEXACT}
