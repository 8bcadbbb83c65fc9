"""Real models run by onnxruntime's own interface, on inputs that they take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto

from onnxpress.backends.generate import generate_feeds
from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import lower

from .conftest import RealModel

Feed = dict[str, np.ndarray[Any, Any]]
RECIPES: dict[str, dict[str, Any]] = {
    "magika": {"bytes": np.arange(2 * 2048).reshape(2, 2048) % 257},
    "ppocr4_det": {"x": (1, 3, 96, 64)},
    "ppocr4_rec": {"x": (2, 3, 48, 80)},
    "ppocr_cls": {"x": (2, 3, 48, 192)},
    "nudenet": {"images": (1, 3, 160, 128)},
    "silero_vad": {"input": (1, 512), "state": (2, 1, 128), "sr": np.array(16000)},
    "silero_vad_op15": {"input": (1, 512), "state": (2, 1, 128), "sr": np.array(16000)},
    "silero_vad_half": {"input": (1, 512), "state": (2, 1, 128)},
    "demo": {"image": (4, 1, 8, 8)},
}
"""Inputs: an array, or the shape of normal noise. Models that are not here get generated ones."""


def session(model: bytes, optimize: bool) -> onnxruntime.InferenceSession:
    """A session of onnxruntime, by its own interface: the reference configuration, or its defaults on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def outputs_of(real_model: RealModel, optimize: bool) -> list[list[Any]]:
    """What a model as it is gives for each of its feeds."""
    before = session(real_model.path.read_bytes(), optimize)
    return [before.run(None, feed) for feed in feeds_of(real_model)]


@cache
def feeds_of(real_model: RealModel) -> list[Feed]:
    """Two feeds that the model runs."""
    return list(_feeds(real_model.name, real_model.load()))


def _feeds(name: str, proto: ModelProto) -> Iterator[Feed]:
    recipe = RECIPES.get(name)
    if recipe is None:
        made = generate_feeds(proto, OrtBackend().prepare(lower(proto)), n=2, seed=0)
        assert made.feeds, made.reasons
        yield from made.feeds
        return
    types = {info.name: info.type.tensor_type.elem_type for info in proto.graph.input}
    rng = np.random.default_rng(0)
    for _ in range(2):
        arrays = {name: v if isinstance(v, np.ndarray) else rng.standard_normal(v) for name, v in recipe.items()}
        yield {name: a.astype(onnx.helper.tensor_dtype_to_np_dtype(types[name])) for name, a in arrays.items()}
