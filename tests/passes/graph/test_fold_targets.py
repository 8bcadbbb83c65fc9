"""`fold` on Reshapes whose targets stay computed: sizes of the input are copied, those of 1 are taken out or put in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx import ModelProto, checker

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs import check_golden, model_of
from onnxpress.specs.bits import differing
from onnxpress.specs.negatives import check_variants

COPIED = (
    """
    g (float[B,24,N] x) => (float[B,4,6,N] y, float[B,2,12,N] z)
    <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[2] split = {4,6}, int64[2] other = {2,12}> {
        s = Shape(x)
        b = Gather(s, i0)
        n = Gather(s, i2)
        first = Concat<axis = 0>(b, split, n)
        second = Concat<axis = 0>(b, other, n)
        y = Reshape(x, first)
        z = Reshape(x, second)
    }""",
    """
    g (float[B,24,N] x) => (float[B,4,6,N] y, float[B,2,12,N] z)
    <int64[1] i2 = {2}, int64[2] split = {4,6}, int64[2] other = {2,12}, int64[1] b = {0}> {
        s = Shape(x)
        n = Gather(s, i2)
        first = Concat<axis = 0>(b, split, n)
        second = Concat<axis = 0>(b, other, n)
        y = Reshape(x, first)
        z = Reshape(x, second)
    }""",
)
UNSQUEEZED = (
    """
    g (float[A,B] x) => (float[A,1,B] y) <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] one = {1}> {
        s = Shape(x)
        a = Gather(s, i0)
        b = Gather(s, i1)
        target = Concat<axis = 0>(a, one, b)
        y = Reshape(x, target)
    }""",
    "g (float[A,B] x) => (float[A,1,B] y) <int64[1] target = {1}> { y = Unsqueeze(x, target) }",
)
DISTRIBUTION = (
    # the head of a detector: that n is not 0 is known from the first Reshape, where the input has no size to copy
    """
    g (float[B,24,N] x, float[1,6,1,1] w) => (float[B,4,N] y)
    <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[1] four = {4}, int64[1] six = {6}> {
        s = Shape(x)
        b = Gather(s, i0)
        n = Gather(s, i2)
        first = Concat<axis = 0>(b, four, six, n)
        h = Reshape(x, first)
        t = Transpose<perm = [0, 2, 1, 3]>(h)
        c = Conv(t, w)
        second = Concat<axis = 0>(b, four, n)
        y = Reshape(c, second)
    }""",
    """
    g (float[B,24,N] x, float[1,6,1,1] w) => (float[B,4,N] y)
    <int64[1] i2 = {2}, int64[1] four = {4}, int64[1] six = {6}, int64[1] second = {1}, int64[1] b = {0}> {
        s = Shape(x)
        n = Gather(s, i2)
        first = Concat<axis = 0>(b, four, six, n)
        h = Reshape(x, first)
        t = Transpose<perm = [0, 2, 1, 3]>(h)
        c = Conv(t, w)
        y = Squeeze(c, second)
    }""",
)
INFERRED = (
    # the first Reshape infers a size, so no other one is 0 in a run that succeeds
    """
    g (float[B,24,H,W] x) => (float[B,4,6,N] z)
    <int64[3] rows = {0,24,-1}, int64[1] i0 = {0}, int64[1] i2 = {2}, int64[2] split = {4,6}> {
        y = Reshape(x, rows)
        s = Shape(y)
        b = Gather(s, i0)
        n = Gather(s, i2)
        target = Concat<axis = 0>(b, split, n)
        r = Relu(y)
        z = Reshape(r, target)
    }""",
    """
    g (float[B,24,H,W] x) => (float[B,4,6,N] z) <int64[3] rows = {0,24,-1}, int64[4] target = {0,4,6,-1}> {
        y = Reshape(x, rows)
        r = Relu(y)
        z = Reshape(r, target)
    }""",
)
GOLDENS = {
    "inferred size": INFERRED,
    "copied sizes": COPIED,
    "sizes of 1 put in": UNSQUEEZED,
    "sizes of 1 taken out": DISTRIBUTION,
}
SIZES = list(itertools.product((0, 1, 3), (0, 1, 5)))


def folded(proto: ModelProto) -> ModelProto:
    model = lower(proto)
    PassManager("fold", backend=OrtBackend()).run(model)
    return emit(model)


@pytest.mark.parametrize("what", GOLDENS)
def test_golden(what: str) -> None:
    check_golden("fold,dce", *map(model_of, GOLDENS[what]))


@pytest.mark.parametrize("what", GOLDENS)
def test_variants_compute_the_same(what: str) -> None:
    reports = check_variants("fold,dce", model_of(GOLDENS[what][0]))
    assert reports[""].changed


@pytest.mark.parametrize("what", GOLDENS)
def test_empty_inputs_are_as_before(what: str) -> None:
    """What the model took it takes still, and gives the same shapes."""
    proto = model_of(GOLDENS[what][0])
    before, after = (OrtBackend().prepare(lower(each)) for each in (proto, folded(proto)))
    ran = 0
    for a, b in SIZES:
        sizes = {"A": a, "B": b if what == "sizes of 1 put in" else a, "N": b, "H": b, "W": 2}
        shapes = {info.name: info.type.tensor_type.shape.dim for info in proto.graph.input}
        feed = {
            name: np.ones([sizes.get(dim.dim_param, dim.dim_value) for dim in dims], np.float32)
            for name, dims in shapes.items()
        }
        try:
            expected = before.run(feed)
        except ExecutionError:
            continue
        ran += 1
        assert not differing(expected, after.run(feed)), (a, b)
    assert ran >= 4


def test_a_reshape_in_a_branch_tells_nothing_of_the_graph_around() -> None:
    before = model_of("""
        g (float[B,24,N] x, bool c) => (float[B,24,N] p, float[B,4,6,N] z)
        <int64[3] rows = {0,24,-1}, int64[1] i0 = {0}, int64[1] i2 = {2}, int64[2] split = {4,6}> {
            s = Shape(x)
            b = Gather(s, i0)
            n = Gather(s, i2)
            target = Concat<axis = 0>(b, split, n)
            z = Reshape(x, target)
            p = If(c) <then_branch = t () => (float[B,24,N] u) { u = Reshape(x, rows) },
                       else_branch = e () => (float[B,24,N] v) { v = Identity(x) }>
        }""")
    after = folded(before)
    feed = {"x": np.zeros((0, 24, 3), np.float32), "c": np.array(False)}
    assert not differing(*(OrtBackend().prepare(lower(each)).run(feed) for each in (before, after)))
    assert "Shape" in [node.op_type for node in after.graph.node]


def test_before_opset_13_axes_are_an_attribute() -> None:
    before = model_of(UNSQUEEZED[0], opset=11)
    (node,) = folded(before).graph.node
    assert (node.op_type, list(node.input), list(node.attribute[0].ints)) == ("Unsqueeze", ["x"], [1])


def test_in_half_precision_a_reshape_stays_one() -> None:
    before = model_of(UNSQUEEZED[0].replace("float[", "float16["))
    assert [node.op_type for node in folded(before).graph.node] == ["Shape", "Gather", "Concat", "Reshape"]


KEPT = {
    "a size at another place": """
        g (float[A,B] x) => (float[B,A] y) <int64[1] i0 = {0}, int64[1] i1 = {1}> {
            s = Shape(x)
            a = Gather(s, i0)
            b = Gather(s, i1)
            t = Concat<axis = 0>(b, a)
            y = Reshape(x, t)
        }""",
    "a size of another input": """
        g (float[A,24,N] x, float[A,24] w) => (float[A,4,6,N] y)
        <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[2] split = {4,6}> {
            s = Shape(x)
            r = Shape(w)
            a = Gather(r, i0)
            n = Gather(s, i2)
            t = Concat<axis = 0>(a, split, n)
            y = Reshape(x, t)
        }""",
    "a 0 that stands for itself": """
        g (float[A,24,N] x) => (float[A,4,6,N] y) <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[2] split = {4,6}> {
            s = Shape(x)
            a = Gather(s, i0)
            n = Gather(s, i2)
            t = Concat<axis = 0>(a, split, n)
            y = Reshape<allowzero = 1>(x, t)
        }""",
    "a size that is read elsewhere": """
        g (float[A,24,N] x) => (float[A,4,6,N] y, int64[1] c)
        <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[2] split = {4,6}> {
            s = Shape(x)
            a = Gather(s, i0)
            n = Gather(s, i2)
            t = Concat<axis = 0>(a, split, n)
            y = Reshape(x, t)
            c = Mul(a, n)
        }""",
    "a target that is an output": """
        g (float[A,24,N] x) => (float[A,4,6,N] y, int64[4] t)
        <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[2] split = {4,6}> {
            s = Shape(x)
            a = Gather(s, i0)
            n = Gather(s, i2)
            t = Concat<axis = 0>(a, split, n)
            y = Reshape(x, t)
        }""",
    "a target that expands too": """
        g (float[A,24,N] x, float[1,1,1,1] w) => (float[A,4,6,N] y, float[A,4,6,N] e)
        <int64[1] i0 = {0}, int64[1] i2 = {2}, int64[2] split = {4,6}> {
            s = Shape(x)
            a = Gather(s, i0)
            n = Gather(s, i2)
            t = Concat<axis = 0>(a, split, n)
            y = Reshape(x, t)
            e = Expand(w, t)
        }""",
    "a size that may be 0, which would copy the 4": """
        g (float[B,1,4,N] x) => (float[B,4,M] y) <int64[1] i0 = {0}, int64[1] i3 = {3}, int64[1] four = {4}> {
            s = Shape(x)
            r = Neg(s)
            q = Neg(r)
            b = Gather(q, i0)
            n = Gather(q, i3)
            c = Add(b, b)
            t = Concat<axis = 0>(b, four, n)
            y = Reshape(x, t)
        }""",
    "the target of an output that is declared with another rank": """
        g (float[A,N,24] x) => (float[A,N] y) <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[2] split = {4,6}> {
            s = Shape(x)
            a = Gather(s, i0)
            n = Gather(s, i1)
            t = Concat<axis = 0>(a, n, split)
            y = Reshape(x, t)
        }""",
}


@pytest.mark.parametrize("what", KEPT)
def test_it_stays(what: str) -> None:
    before = model_of(KEPT[what])
    after = folded(before)
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node], what


def test_what_the_checker_takes_it_takes_after() -> None:
    before = model_of(KEPT["the target of an output that is declared with another rank"], opset=13)
    checker.check_model(before, full_check=True)
    checker.check_model(folded(before), full_check=True)
