"""`canonicalize` keeps its promises on drawn models, with what it looks at put into them."""

from __future__ import annotations

from hypothesis import given
from onnx import ModelProto

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.graph.canonicalize.canonicalize import Canonicalize
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs import check_pass

from .blocks import with_blocks


def test_it_keeps_its_promises() -> None:
    checked = check_pass(Canonicalize, models=with_blocks())
    assert checked.changed > checked.examples // 2
    assert checked.compared > checked.examples


@given(with_blocks())
def test_a_file_never_grows(proto: ModelProto) -> None:
    model = lower(proto)
    PassManager("canonicalize", backend=OrtBackend()).run(model)
    assert emit(model).ByteSize() <= proto.ByteSize()
