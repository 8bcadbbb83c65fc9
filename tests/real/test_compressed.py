"""What the pipelines make of real models: valid, of the same interface, never larger, as small as promised."""

from __future__ import annotations

from typing import Any

import onnx

from .runs import feeds_of, outputs_of, session

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
    after = session(compressed_by("fold,dce").after_bytes, optimize=False)
    for feed, expected in zip(feeds_of(real_model), outputs_of(real_model, optimize=False), strict=True):
        for a, b in zip(expected, after.run(None, feed), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()


def test_weight_only_file_is_as_small_as_promised(real_model: Any, compressed_by: Any) -> None:
    result = compressed_by("fold,dce,quantize-insert{mode=weight-only}")
    ratio = len(result.after_bytes) / result.before.ByteSize()
    assert ratio <= CEILINGS.get(real_model.name, 1.0)
