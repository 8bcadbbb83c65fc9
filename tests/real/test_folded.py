"""What `fold` makes of real models that compute shapes and branch on them, at several sizes of their inputs."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Model, emit, lower
from onnxpress.ir.proto import file_size
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs.bits import differing

from .conftest import published_model

AT_MOST = {"silero_vad": 86, "silero_vad_op15": 42, "silero_vad_half": 39}
"""Nodes in all graphs. The best that another tool reaches is 116, 60 and 57."""


def operators(model: Model) -> Counter[str]:
    return Counter(node.op_type for graph in model.walk_graphs() for node in graph.nodes)


def folded(proto: ModelProto) -> Model:
    model = lower(proto)
    PassManager("fold,dce", backend=OrtBackend()).run(model)
    return model


@pytest.mark.parametrize("name", AT_MOST)
def test_a_model_that_asks_for_ranks_and_sizes_is_straight(name: str) -> None:
    before = onnx.load(published_model(name))
    after = folded(before)
    found = operators(after)
    assert found.total() <= AT_MOST[name]
    assert found["If"] == (name == "silero_vad")  # whose sampling rate is an input
    assert not found["Shape"]
    assert file_size(after) < file_size(lower(before))
    assert agreeing(before, after) > 6


def agreeing(before: ModelProto, after: Model) -> int:
    """How many feeds of several sizes the original runs, and the result too, to the bit."""
    old, new = OrtBackend().prepare(lower(before)), OrtBackend().prepare(lower(emit(after)))
    rng, count = np.random.default_rng(0), 0
    read = {info.name for info in before.graph.input}
    for batch, length, rate in itertools.product((1, 3), (100, 256, 288, 576, 2000), (8000, 16000)):
        feed = {
            "input": rng.standard_normal((batch, length)).astype(np.float32),
            "state": rng.standard_normal((2, batch, 128)).astype(np.float32),
            "sr": np.array(rate),
        }
        feed = {name: array for name, array in feed.items() if name in read}
        try:
            expected = old.run(feed)
        except ExecutionError:
            continue
        assert not differing(expected, new.run(feed))
        count += 1
    return count
