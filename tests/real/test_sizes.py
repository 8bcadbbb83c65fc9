"""`simplify` and `simplify-operators` on real models at many sizes, those at the edge among them: same shapes, same
numbers, and no input refused that the model takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from onnxpress.backends.generate import generate_feeds
from onnxpress.backends.metrics import measure
from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import lower
from onnxpress.ir.dtypes import numpy_dtype

Shapes = dict[str, tuple[int, ...]]
RATES = {"16 kHz": 16000, "8 kHz": 8000}


def _images(name: str, *shapes: tuple[int, ...]) -> list[Shapes]:
    return [{name: shape} for shape in shapes]


def _voices(*batches: int, window: int = 512) -> list[Shapes]:
    return [{"input": (batch, window), "state": (2, batch, 128)} for batch in batches]


def _texts(*shapes: tuple[int, int]) -> list[Shapes]:
    return [dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), shape) for shape in shapes]


SIZES: dict[str, list[Shapes]] = {
    "ppocr4_det": _images("x", (1, 3, 32, 32), (2, 3, 64, 32), (1, 3, 96, 160), (3, 3, 32, 128), (1, 3, 32, 640)),
    "ppocr4_rec": _images("x", (1, 3, 48, 16), (2, 3, 48, 80), (1, 3, 48, 101), (5, 3, 48, 33), (1, 3, 48, 320)),
    "ppocr_cls": _images("x", (1, 3, 48, 192), (2, 3, 32, 64), (5, 3, 48, 100), (1, 3, 16, 16)),
    "nudenet": _images("images", (1, 3, 32, 32), (2, 3, 64, 96), (3, 3, 32, 64), (1, 3, 160, 128)),
    "silero_vad": [*_voices(1, 2, 5), *_voices(1, 3, window=256)],
    "silero_vad_op15": [*_voices(1, 2, 5), *_voices(1, window=576)],
    "silero_vad_half": [*_voices(1, 2, 5), *_voices(1, window=576)],
    "minilm/model": _texts((1, 1), (1, 7), (3, 2), (2, 64), (1, 128)),
    "magika": [{"bytes": (batch, 2048)} for batch in (1, 2, 5)],
}
"""By model. What is not here gets generated inputs, in several sizes too."""
ROUNDING = 2e-5
"""Of the norm, or in absolute numbers: probabilities of 1e-7 are rounded beside 1."""


@pytest.mark.parametrize("pipeline_name", ["simplify", "simplify-operators"])
def test_every_size_gives_what_it_gave(real_model: Any, compressed_by: Any, pipeline_name: str) -> None:
    result = compressed_by(pipeline_name)
    old, new = (OrtBackend().prepare(lower(proto)) for proto in (result.before, result.after))
    shapes = set()
    for feed in feeds_of(real_model.name, result.before):
        try:
            expected = old.run(feed)
        except ExecutionError:
            continue
        shapes.add(tuple(array.shape for array in feed.values()))
        found = new.run(feed)
        for name, array in expected.items():
            assert (array.dtype, array.shape) == (found[name].dtype, found[name].shape)
            error = measure(array, found[name])
            assert error["rel-l2"] <= ROUNDING or error["max-abs"] <= ROUNDING
    assert len(shapes) >= min(3, len(SIZES.get(real_model.name, [{}])))


def feeds_of(name: str, proto: ModelProto) -> Iterator[dict[str, Any]]:
    """Inputs of each of the sizes."""
    if name not in SIZES:
        yield from generate_feeds(proto, OrtBackend().prepare(lower(proto)), n=6, seed=0).feeds
        return
    rng = np.random.default_rng(0)
    types = {info.name: numpy_dtype(info.type.tensor_type.elem_type) for info in proto.graph.input}
    for shapes in SIZES[name]:
        feed = {key: _drawn(key, shape, types[key], rng) for key, shape in shapes.items()}
        if "sr" not in types:
            yield feed
        for rate in RATES.values() if "sr" in types else ():
            yield {**feed, "sr": np.array(rate)}


def _drawn(name: str, shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> Any:
    if dtype == np.float32:
        return rng.standard_normal(shape, np.float32)
    most = {"bytes": 257, "input_ids": 30000}.get(name, 2)
    made = rng.integers(0, most, shape).astype(dtype)
    if name == "attention_mask":
        made[:, 0] = 1
    return made
