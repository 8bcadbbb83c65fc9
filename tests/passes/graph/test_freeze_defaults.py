"""`freeze-defaults`: inputs with a default leave the interface, and nothing else happens."""

from __future__ import annotations

import pytest
from onnx import ModelProto, checker

from onnxpress.ir import emit, lower
from onnxpress.passes.graph.freeze_defaults import FreezeDefaults
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.specs import check_golden, model_of


def freeze(proto: ModelProto) -> tuple[ModelProto, Report]:
    model = lower(proto)
    report = PassManager([FreezeDefaults()]).run(model)
    after = emit(model)
    checker.check_model(after, full_check=True)
    return after, report


BEFORE = "g (float[2] x, float[2] w = {1, 2}, float[2] z) => (float[2] y) { s = Add(x, w) y = Mul(s, z) }"
AFTER = "g (float[2] x, float[2] z) => (float[2] y) <float[2] w = {1, 2}> { s = Add(x, w) y = Mul(s, z) }"


def test_a_default_becomes_a_constant() -> None:
    report = check_golden("freeze-defaults", model_of(BEFORE), model_of(AFTER))
    assert [(remark.subject, remark.reason) for remark in report.remarks] == [("w", "its default is now a constant")]


def test_a_model_of_ir_version_3_is_raised_to_4() -> None:
    report = check_golden(
        "freeze-defaults", model_of(BEFORE, ir_version=3, opset=8), model_of(AFTER, ir_version=4, opset=8)
    )
    assert report.remarks[-1].reason == "IR version raised from 3 to 4"


def test_frozen_defaults_can_be_folded() -> None:
    before = "g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { n = Neg(w) y = Add(x, n) }"
    after = "g (float[2] x) => (float[2] y) <float[2] n = {-1, -2}> { y = Add(x, n) }"
    check_golden("freeze-defaults,fold", model_of(before), model_of(after))


@pytest.mark.parametrize("text", [AFTER, "g (float[2] x) => (float[2] y) { y = Neg(x) }"])
def test_without_defaults_there_is_nothing_to_do(text: str) -> None:
    after, report = freeze(model_of(text))
    assert after == model_of(text)
    assert [remark.reason for remark in report.remarks] == ["no input has a default"]


def test_what_training_information_names_stays_an_input() -> None:
    before = model_of(BEFORE)
    before.training_info.add().update_binding.add(key="w", value="w")
    after, report = freeze(before)
    assert after == before
    assert [remark.reason for remark in report.remarks] == ["training information names it"]


def test_an_unread_default_stays_in_the_file_until_dce() -> None:
    before = "g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Neg(x) }"
    after = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Neg(x) }"
    check_golden("freeze-defaults", model_of(before), model_of(after))
