"""Real models come back as they were: through the IR, and through the text."""

from __future__ import annotations

from typing import Any

import onnxpress
from onnxpress.ir import emit
from onnxpress.ir.text import parse, print_model

from ..messages import without_defaults


def test_empty_pipeline_gives_the_same_bytes(real_model: Any) -> None:
    model = onnxpress.load(real_model.path)
    report = onnxpress.PassManager("", measure=False).run(model)
    assert not report.changed
    assert emit(model).SerializeToString(deterministic=True) == real_model.load().SerializeToString(deterministic=True)


def test_full_text_gives_an_equal_message(real_model: Any) -> None:
    model = onnxpress.load(real_model.path)
    text = print_model(model, full=True)
    again = parse(text, weights=model)
    assert print_model(again, full=True) == text
    assert without_defaults(emit(again)) == without_defaults(real_model.load())
