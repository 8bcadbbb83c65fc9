"""What other simplifiers were seen to do wrong: `simplify` does none of it.

Folding or merging what draws random numbers; deleting a node that others read; taking out a Slice that cuts; losing
an initializer that only a branch reads; storing a shared weight once for each branch that transposes it; storing what
ConstantOfShape makes; baking in a shape that only a declaration supports.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx.backend.test
import pytest
from onnx import ModelProto, checker, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs import model_of
from onnxpress.specs.bits import differing
from onnxpress.specs.impure import impure_nodes
from onnxpress.specs.negatives import check_variants

LIGHT = sorted((Path(onnx.backend.test.__file__).parent / "data" / "light").glob("*.onnx"))
RNG = np.random.default_rng(0)


@pytest.fixture(params=["simplify", "simplify-operators"])
def pipeline(request: pytest.FixtureRequest) -> str:
    """Either of the pipelines."""
    return str(request.param)


def simplified(proto: ModelProto, pipeline: str) -> ModelProto:
    model = lower(proto)
    PassManager(pipeline, backend=OrtBackend()).run(model)
    after = emit(model)
    checker.check_model(after, full_check=True)
    assert after.ByteSize() <= proto.ByteSize()
    return after


def ops(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def assert_same(before: ModelProto, after: ModelProto, *feeds: dict[str, Any]) -> None:
    """To the bit, on feeds that the model runs."""
    old, new = (OrtBackend().prepare(lower(proto)) for proto in (before, after))
    for feed in feeds:
        assert not differing(old.run(feed), new.run(feed)), feed


# ---- random numbers

RANDOM = {
    "Bernoulli": "Bernoulli (p)",
    "Bernoulli with a seed": "Bernoulli <seed = 1.0> (p)",
    "RandomNormalLike": "RandomNormalLike (p)",
    "RandomUniformLike": "RandomUniformLike (p)",
    "RandomNormal": "RandomNormal <shape = [2, 3]> ()",
    "RandomUniform": "RandomUniform <shape = [2, 3]> ()",
    "Dropout that trains": "Dropout (p, r, t)",
}
DRAWN = "float[2,3] p = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5}, float r = {0.5}, bool t = {1}"


@pytest.mark.parametrize("what", RANDOM)
def test_random_numbers_are_drawn_as_often_as_before(what: str, pipeline: str) -> None:
    draw = RANDOM[what]
    before = model_of(
        f"g () => (float[2,3] y, float[2,3] z) <{DRAWN}> {{ a = {draw} b = {draw} y = Abs(a) z = Abs(b) }}"
    )
    assert impure_nodes(simplified(before, pipeline)) == impure_nodes(before)
    inside = model_of(f"""g (bool c) => (float[2,3] y, float[2,3] z) <{DRAWN}> {{
        y = If(c) <then_branch = s () => (float[2,3] a) {{ a = {draw} }},
                   else_branch = u () => (float[2,3] b) {{ b = {draw} }}>
        z = {draw}
    }}""")
    assert impure_nodes(simplified(inside, pipeline)) == impure_nodes(inside)


def test_multinomial_is_neither_folded_nor_merged(pipeline: str) -> None:
    before = model_of("""g () => (int32[1,4] y, int32[1,4] z) <float[1,3] p = {0.1, 0.2, 0.7}> {
        y = Multinomial <sample_size = 4> (p) z = Multinomial <sample_size = 4> (p) }""")
    assert impure_nodes(simplified(before, pipeline)) == {"::Multinomial": 2}


# ---- nodes that others read

W = "float[2,2,1,1] w = {1, 2, 3, 4}"
NORM = "float[2] g = {2, 1}, float[2] b = {1, 2}, float[2] m = {1, 3}, float[2] v = {3, 0}"
READ = {
    "a convolution before a normalization": f"""g (float[1,2,4,4] x) => (float[1,2,4,4] y) <{W}, {NORM}> {{
        c = Conv(x, w) y = BatchNormalization <epsilon = 1.0> (c, g, b, m, v) }}""",
    "a padding before a convolution": f"""g (float[1,2,4,4] x) => (float[1,2,5,5] y)
        <{W}, int64[8] p = {{0, 0, 1, 1, 0, 0, 0, 0}}> {{ a = Pad(x, p) y = Conv(a, w) }}""",
    "a product before a Gemm": """g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}, float s = {3}> {
        a = MatMul(x, w) y = Mul(a, s) }""",
    "two transposes": """g (float[2,3,4] x) => (float[2,3,4] y) {
        a = Transpose <perm = [1, 2, 0]> (x) b = Transpose <perm = [2, 0, 1]> (a) y = Relu(b) }""",
    "three transposes": """g (float[2,3,4] x) => (float[3,4,2] y) {
        a = Transpose <perm = [1, 2, 0]> (x) b = Transpose <perm = [1, 2, 0]> (a)
        y = Transpose <perm = [2, 0, 1]> (b) }""",
    "casts": """g (int32[3] x) => (float[3] y) {
        a = Cast <to = 7> (x) b = Cast <to = 11> (a) y = Cast <to = 1> (b) }""",
    "reshapes": """g (float[2,6] x) => (float[6,2] y) <int64[3] s = {0, 2, 3}, int64[2] t = {6, 2}> {
        a = Reshape(x, s) y = Reshape(a, t) }""",
    "an activation in parts": """g (float[2,8] x) => (float[2,8] y)
        <float three = {3}, float zero = {0}, float six = {6}> {
        a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six) }""",
}


@pytest.mark.parametrize("what", READ)
def test_a_node_that_others_read_stays_for_them(what: str, pipeline: str) -> None:
    """Each inner value read by another node, as an output, and captured by a body."""
    reports = check_variants(pipeline, model_of(READ[what]), rtol=2e-6)
    assert reports[""].changed
    assert sum("another reader" in name for name in reports) >= 1
    assert sum("captured" in name for name in reports) >= 1


# ---- slices

BOUNDS = [(0, 2**63 - 1, 1), (0, 5, 1), (0, -1, 1), (1, 2**63 - 1, 1), (-3, 2**63 - 1, 1), (0, 2**63 - 1, 2),
          (-1, -(2**63), -1), (-1, -(2**31), -1), (2**63 - 1, -(2**63), -1), (-2, -(2**63), -1), (0, 0, 1)]  # fmt: skip


@pytest.mark.parametrize("size", ["N", 5])
@pytest.mark.parametrize(("start", "end", "step"), BOUNDS)
def test_a_slice_cuts_what_it_cut(start: int, end: int, step: int, size: str | int, pipeline: str) -> None:
    before = model_of(f"""g (float[{size},2] x) => (float[M,2] y)
        <int64[1] s = {{{start}}}, int64[1] e = {{{end}}}, int64[1] a = {{0}}, int64[1] t = {{{step}}}> {{
        z = Slice(x, s, e, a, t) y = Relu(z) }}""")
    sizes = range(8) if size == "N" else [5]
    feeds = [{"x": RNG.standard_normal((n, 2)).astype(np.float32)} for n in sizes]
    assert_same(before, simplified(before, pipeline), *feeds)


def test_slices_of_slices_cut_what_they_cut(pipeline: str) -> None:
    for first, second in itertools.product(BOUNDS[::2], BOUNDS[1:7:2]):
        weights = ", ".join(
            f"int64[1] {name} = {{{number}}}" for name, number in zip("abcdef", (*first, *second), strict=True)
        )
        before = model_of(f"""g (float[N] x) => (float[M] y) <{weights}, int64[1] o = {{0}}> {{
            u = Slice(x, a, b, o, c) z = Slice(u, d, e, o, f) y = Relu(z) }}""")
        feeds = [{"x": RNG.standard_normal(n).astype(np.float32)} for n in (0, 1, 4, 7)]
        assert_same(before, simplified(before, pipeline), *feeds)


# ---- branches


def test_an_initializer_that_only_a_branch_reads_is_not_lost(pipeline: str) -> None:
    before = model_of("""g (float[2] x, bool c, bool d) => (float[2] y) <float[2] w = {1, 2}, float[2] u = {3, 4}> {
        y = If(c) <then_branch = t () => (float[2] a) { a = Mul(x, w) },
                   else_branch = e () => (float[2] b) {
                       b = If(d) <then_branch = tt () => (float[2] p) { p = Sub(x, u) },
                                  else_branch = ee () => (float[2] q) { q = Add(x, w) }> }> }""")
    feeds = [
        {"x": np.array([5, 6], np.float32), "c": np.array(c), "d": np.array(d)}
        for c, d in itertools.product((True, False), repeat=2)
    ]
    assert_same(before, simplified(before, pipeline), *feeds)


VIEWS = {
    "Transpose <perm = [1, 0]> (w)": "float[64,64]",
    "Cast <to = 11> (w)": "double[64,64]",
    "Reshape (w, flat)": "float[32,128]",
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_shared_weight_is_not_stored_for_each_branch(view: str, pipeline: str) -> None:
    """That the file does not grow is what `simplified` looks at."""
    kind = VIEWS[view]
    before = model_of(f"""g ({kind} x, bool c) => ({kind} y) <int64[2] flat = {{32, 128}}> {{
        y = If(c) <then_branch = t () => ({kind} a) {{ v = {view} a = Add(x, v) }},
                   else_branch = e () => ({kind} b) {{ u = {view} b = Sub(x, u) }}> }}""")
    before.graph.initializer.append(numpy_helper.from_array(RNG.standard_normal((64, 64)).astype(np.float32), "w"))
    like = numpy_helper.to_array(before.graph.initializer[-1])
    x = (like.T if "perm" in view else like.reshape(kind_shape(kind))).astype("d" if "double" in kind else "f")
    assert_same(before, simplified(before, pipeline), {"x": x, "c": np.array(True)}, {"x": x, "c": np.array(False)})


def kind_shape(kind: str) -> list[int]:
    return [int(size) for size in kind[kind.index("[") + 1 : -1].split(",")]


# ---- large constants from small recipes


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_a_light_model_stays_light(path: Path) -> None:
    """Their weights are ConstantOfShape nodes: 80 kB that stand for 100 MB."""
    before = onnx.load(path)
    after = simplified(before, "freeze-defaults,simplify")
    assert after.ByteSize() <= before.ByteSize() < 600_000
    assert len(after.graph.node) <= len(before.graph.node)


# ---- declarations


def declared(*, output: list[int | str] | None = None, inner: list[int | str] | None = None) -> ModelProto:
    """y is x [N, 3], turned and turned back, its rows counted and added; with wrong shapes declared."""
    text = """g (float[N,3] x) => (float[A,B] y, int64[2] s) <int64[1] at = {0}, float[3] w = {1, 2, 3}> {
        t = Transpose <perm = [1, 0]> (x)
        a = Abs (t)
        r = Shape (a)
        u = Transpose <perm = [1, 0]> (a)
        n = Gather (r, at)
        q = Concat <axis = 0> (r, n)
        f = Cast <to = 1> (n)
        y = Mul (u, f)
        s = Shape (y)
    }"""
    proto = model_of(text)
    if output is not None:
        proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, output))
    if inner is not None:
        proto.graph.value_info.append(helper.make_tensor_value_info("a", 1, inner))
    return proto


@pytest.mark.parametrize("wrong", [{"output": [4, 3]}, {"output": ["N", 1]}, {"inner": [3, 4]}, {"inner": [7, "N"]}])
def test_a_wrong_declared_shape_is_not_baked_in(wrong: dict[str, list[int | str]], pipeline: str) -> None:
    right, before = declared(), declared(**wrong)
    model = lower(before)
    PassManager(pipeline, backend=OrtBackend()).run(model)
    after = emit(model)
    assert [*before.graph.output] == [*after.graph.output]
    for proto in (right, before, after):
        del proto.graph.value_info[:]
        proto.graph.output[0].CopyFrom(right.graph.output[0])
    assert_same(right, after, *feeds())


def feeds() -> Iterator[dict[str, Any]]:
    for rows in (0, 1, 2, 5):
        yield {"x": RNG.standard_normal((rows, 3)).astype(np.float32)}
