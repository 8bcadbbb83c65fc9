"""Real models come back as they were: through the IR, and through the text."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

import onnxpress
from onnxpress.ir import emit
from onnxpress.ir.text import parse, print_model


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


def without_defaults(message: Message) -> bytes:
    """The bytes of a message once fields that hold their default are absent; the message is changed."""
    forget_defaults(message)
    return message.SerializeToString(deterministic=True)


def forget_defaults(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                forget_defaults(inner)
        elif not field.is_repeated and repr(value) == repr(field.default_value):
            message.ClearField(field.name)
