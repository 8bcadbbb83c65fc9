"""What the pipelines make of real models: valid, of the same interface, never larger, as small as promised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto

from onnxpress.backends.generate import generate_feeds
from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import lower

CEILINGS = {
    "magika": 0.28,
    "ppocr4_rec": 0.28,
    "nudenet": 0.28,
    "minilm/model": 0.28,
    "resnet": 0.28,
    "lenet300": 0.28,
    "ppocr4_det": 0.29,
    "ppocr_cls": 0.43,
    "silero_vad": 0.40,
    "silero_vad_op15": 0.40,
    "silero_vad_half": 0.40,
}
"""Bytes of the weight-only file in those of the input."""

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


def test_result_is_valid_and_loads(compressed: Any) -> None:
    onnx.checker.check_model(compressed.after, full_check=True)
    for optimize in (False, True):
        session(compressed.after_bytes, optimize)


def test_interface_is_kept(compressed: Any) -> None:
    before, after = compressed.before.graph, compressed.after.graph
    assert [(i.name, i.type) for i in after.input] == [(i.name, i.type) for i in before.input]
    assert [(o.name, o.type) for o in after.output] == [(o.name, o.type) for o in before.output]


def test_result_is_never_larger(compressed: Any) -> None:
    assert len(compressed.after_bytes) <= compressed.before.ByteSize()
    assert compressed.report.before.file_bytes == compressed.before.ByteSize()
    assert compressed.report.after.file_bytes == len(compressed.after_bytes)


def test_fold_keeps_every_bit(real_model: Any, compressed_by: Any) -> None:
    result = compressed_by("fold,dce")
    first = session(result.before.SerializeToString(), optimize=False)
    second = session(result.after_bytes, optimize=False)
    for feed in feeds_of(real_model, result.before):
        for a, b in zip(first.run(None, feed), second.run(None, feed), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()


def test_weight_only_file_is_as_small_as_promised(real_model: Any, compressed_by: Any) -> None:
    result = compressed_by("fold,dce,quantize-insert{mode=weight-only}")
    ratio = len(result.after_bytes) / result.before.ByteSize()
    assert ratio <= CEILINGS.get(real_model.name, 1.0)


def session(model: bytes, optimize: bool) -> onnxruntime.InferenceSession:
    """A session of onnxruntime, by its own interface: the reference configuration, or its defaults on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def feeds_of(real_model: Any, proto: ModelProto) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """Two feeds that the model runs."""
    recipe = RECIPES.get(real_model.name)
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
