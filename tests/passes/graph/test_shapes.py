"""Sizes are pinned and named on request alone; claims that inference contradicts are corrected, nothing else moves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import printer

import onnxpress as op
from onnxpress.backends.judge import Judge
from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import emit, lower, verify
from onnxpress.passes.graph.shapes import Shapes
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.text import parse_pipeline
from onnxpress.specs import check_pass
from onnxpress.specs.golden import check_golden, model_of

TWO = "(float[N,S] x, float[N,S] z) => (float[N,S] y)"
BODY = "a = Add(x, z) y = Relu(a)"
GOLDEN = {
    "an input": (
        "freeze=[x=2x3]",
        f"g {TWO} <float[N,S] a> {{ {BODY} }}",
        "g (float[2,3] x, float[2,3] z) => (float[2,3] y) <float[2,3] a> { " + BODY + " }",
    ),
    "a part of it": (
        "freeze=[x=?x3]",
        f"g {TWO} {{ {BODY} }}",
        "g (float[N,3] x, float[N,3] z) => (float[N,3] y) { " + BODY + " }",
    ),
    "a symbol": (
        "freeze=[N=2]",
        f"g {TWO} {{ {BODY} }}",
        "g (float[2,S] x, float[2,S] z) => (float[2,S] y) { " + BODY + " }",
    ),
    "one dimension": (
        "freeze=[z.1=3]",
        f"g {TWO} {{ {BODY} }}",
        "g (float[N,3] x, float[N,3] z) => (float[N,3] y) { " + BODY + " }",
    ),
    "a name": (
        "name=[x.0=batch]",
        f"g {TWO} {{ {BODY} }}",
        "g (float[batch,S] x, float[batch,S] z) => (float[batch,S] y) { " + BODY + " }",
    ),
    "a name where there was none": (
        "name=[x.0=batch]",
        "g (float[?,3] x) => (float[?,3] y) { y = Relu(x) }",
        "g (float[batch,3] x) => (float[?,3] y) { y = Relu(x) }",
    ),
    "a wrong claim about an output": (
        "",
        "g (float[2,3] x) => (float[2,4] y) { y = Relu(x) }",
        "g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }",
    ),
    "a wrong claim about an intermediate": (
        "",
        "g (float[2,3] x) => (float[2,3] y) <float[3,2] a> { a = Relu(x) y = Relu(a) }",
        "g (float[2,3] x) => (float[2,3] y) <float[2,3] a> { a = Relu(x) y = Relu(a) }",
    ),
    "a claim of another rank": (
        "",
        "g (float[N,3] x) => (float[6] y) { y = Relu(x) }",
        "g (float[N,3] x) => (float[?,3] y) { y = Relu(x) }",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    options, before, after = GOLDEN[name]
    pipeline = f"shapes{{{options}}}" if options else "shapes"
    check_golden(pipeline, model_of(before), model_of(after))


@pytest.mark.parametrize("name", GOLDEN)
def test_again_changes_nothing(name):
    options, _, after = GOLDEN[name]
    model = lower(model_of(after))
    if "name" not in options:
        assert not op.PassManager(f"shapes{{{options}}}" if "x=" in options else "shapes").run(model).changed


def test_claims_that_hold_stay():
    before = model_of("g (float[N,3] x) => (float[batch,3] y) <float[N,3] a> { a = Relu(x) y = Relu(a) }")
    model = lower(before)
    report = op.PassManager("shapes").run(model)
    assert not report.changed
    assert printer.to_text(emit(model)) == printer.to_text(before)


MISTAKES = {
    "x=2x3x4": "rank 2",
    "x=2x4": "is 3 already",
    "w=2x3": "no input and no dimension is called 'w'",
    "w.0=3": "no input and no dimension is called 'w.0'",
    "x=0x3": "no size",
    "x=axb": "no size",
    "x.7=3": "rank 2",
    "x": "expected NAME=VALUE",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text):
    model = lower(model_of("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"))
    before = emit(model).SerializeToString()
    with pytest.raises(UserError, match=MISTAKES[text]) as raised:
        op.PassManager([Shapes(freeze=(text,))]).run(model)
    assert raised.value.exit_code == 2
    assert emit(model).SerializeToString() == before


def test_a_symbol_is_one_size_wherever_it_stands():
    model = lower(model_of(f"g {TWO} {{ {BODY} }}"))
    with pytest.raises(UserError, match="is 2 already"):
        op.PassManager([Shapes(freeze=("x=2x3", "z=4x3"))]).run(model)


def test_a_name_is_no_number():
    model = lower(model_of(f"g {TWO} {{ {BODY} }}"))
    with pytest.raises(UserError, match="pins a size"):
        op.PassManager([Shapes(name_=("x.0=3",))]).run(model)


def test_what_was_measured_before_is_not_held_against_a_narrower_interface():
    """Samples of other sizes are left out; if none is left, nothing is said of the error."""
    model = lower(model_of("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"))
    samples = [{"x": np.ones((size, 3), np.float32)} for size in (1, 2, 3)]
    backend = OrtBackend()
    for size, known in ((2, True), (7, False)):
        narrowed = lower(emit(model))
        judge = Judge(narrowed, backend, samples=samples)
        report = PassManager(f"shapes{{freeze=[N={size}]}}", backend=backend).run(narrowed, judge=judge)
        assert report.changed
        assert (report.after.error is not None) == known
        assert bool(report.after.unmeasured) != known


def test_words_with_an_equals_sign_in_lists():
    pipeline = parse_pipeline('shapes{freeze=[x=1x3 "a b"=2x3, N=4]}')
    assert pipeline[0] == Shapes(freeze=("x=1x3", "a b=2x3", "N=4"))
    assert parse_pipeline(str(pipeline)) == pipeline


def test_it_keeps_its_promises():
    checked = check_pass(Shapes)
    assert checked.compared > checked.examples


def test_bodies_speak_of_the_same_symbols():
    text = """g (float[N] x, bool c) => (float[N] y) { y = If (c) <
        then_branch = t () => (float[N] u) { u = Relu(x) }, else_branch = e () => (float[N] v) { v = Abs(x) } > }"""
    model = lower(model_of(text))
    op.PassManager("shapes{freeze=[x=4]}").run(model)
    verify(model)
    after = emit(model)
    onnx.checker.check_model(after, full_check=True)
    bodies = [attribute.g for attribute in after.graph.node[0].attribute]
    assert [body.output[0].type.tensor_type.shape.dim[0].dim_value for body in bodies] == [4, 4]
