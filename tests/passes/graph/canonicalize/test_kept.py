"""`canonicalize` leaves what only looks as if it changed nothing."""

from __future__ import annotations

import pytest

from onnxpress.specs import check_golden, model_of

KEPT = {
    "plus zero, which makes 0 of -0": ("float[N] x", "y = Add (x, c)", "float c = {0}", 17),
    "minus -0, which does the same": ("float[N] x", "y = Sub (x, c)", "float c = {-0.0}", 17),
    "a sum of one, which may make 0 of -0": ("float[N] x", "y = Sum (x)", "", 17),
    "a sum over no axes, which may do the same": (
        "float[N, 3] x",
        "y = ReduceSum <noop_with_empty_axes = 1> (x)",
        "",
        17,
    ),
    "a mean over no axes": ("float[N, 3] x", "y = ReduceMean <noop_with_empty_axes = 1> (x)", "", 18),
    "times 0 of floats, of which NaN stays": ("float[2] x", "y = Mul (x, c)", "float c = {0}", 17),
    "a one that makes the result larger": ("float[N] x", "y = Mul (x, c)", "float[2, 1] c = {1, 1}", 17),
    "a one as long as an open size": ("float[N] x", "y = Mul (x, c)", "float[3] c = {1, 1, 1}", 17),
    "one over x": ("float[N] x", "y = Div (c, x)", "float c = {1}", 17),
    "zero minus x": ("int64[N] x", "y = Sub (c, x)", "int64 c = {0}", 17),
    "one to the x": ("float[N] x", "y = Pow (c, x)", "float c = {1}", 17),
    "half precision": ("float16[N] x", "a = Abs (x) b = Identity (a) y = Neg (b)", "", 17),
    "what stands between conversions from and to half precision": (
        "float16[N] x",
        "p = Exp (x) a = Cast <to = 1> (p) b = Identity (a) c = Cast <to = 10> (b) y = Cast <to = 1> (c)",
        "",
        17,
    ),
    "a slice from the end": (
        "float[4] x",
        "a = Slice (x, s, e) y = Neg (a)",
        "int64[1] s = {-3}, int64[1] e = {9}",
        17,
    ),
    "a slice to before the end": (
        "float[4] x",
        "a = Slice (x, s, e) y = Neg (a)",
        "int64[1] s = {0}, int64[1] e = {3}",
        17,
    ),
    "a slice to the last": ("float[4] x", "a = Slice (x, s, e) y = Neg (a)", "int64[1] s = {0}, int64[1] e = {-1}", 17),
    "a slice to a number that an open size may pass": (
        "float[N] x",
        "a = Slice (x, s, e) y = Neg (a)",
        "int64[1] s = {0}, int64[1] e = {1000000000}",
        17,
    ),
    "a slice of every second": (
        "float[4] x",
        "a = Slice (x, s, e, s, t) y = Neg (a)",
        "int64[1] s = {0}, int64[1] e = {4}, int64[1] t = {2}",
        17,
    ),
    "a slice backwards": (
        "float[1] x",
        "a = Slice (x, s, e, s, t) y = Neg (a)",
        "int64[1] s = {0}, int64[1] e = {-9}, int64[1] t = {-1}",
        17,
    ),
    "a reshape to 0 that is meant": (
        "float[N, 3] x",
        "a = Reshape <allowzero = 1> (x, t) y = Neg (a)",
        "int64[2] t = {0, 3}",
        17,
    ),
    "a reshape of open sizes": ("float[N, M] x", "a = Reshape (x, t) y = Neg (a)", "int64[2] t = {-1, 3}", 17),
    "a reshape that copies a size that was not there": (
        "float[N, 6] x",
        "a = Reshape (x, s) b = Reshape (a, t) y = Neg (b)",
        "int64[3] s = {2, -1, 3}, int64[2] t = {0, -1}",
        17,
    ),
    "a squeeze of an open size": ("float[N] x", "a = Squeeze (x) y = Neg (a)", "", 17),
    "an unsqueeze elsewhere": (
        "float[N, 1, 1, M] x",
        "a = Squeeze (x, u) b = Unsqueeze (a, v) y = Neg (b)",
        "int64[1] u = {1}, int64[1] v = {3}",
        17,
    ),
    "transposes that do not undo each other, read between": (
        "float[N, M, K] x",
        "a = Transpose <perm = [1, 2, 0]> (x) b = Transpose <perm = [1, 2, 0]> (a) c = Neg (b) "
        "y = Concat <axis = 2> (c, a)",
        "",
        17,
    ),
    "a cast that loses": ("double[N] x", "a = Cast <to = 1> (x) y = Cast <to = 11> (a)", "", 17),
    "integers that a float does not hold": ("int32[N] x", "a = Cast <to = 1> (x) y = Cast <to = 6> (a)", "", 17),
    "through a float to an integer without a sign": (
        "int8[N] x",
        "a = Cast <to = 1> (x) b = Cast <to = 2> (a) y = Cast <to = 1> (b)",
        "",
        17,
    ),
    "clips to different limits": (
        "float[N] x",
        "a = Clip <min = 0.0> (x) y = Clip <min = 1.0> (a)",
        "",
        10,
    ),
    "a reduction that others read": (
        "float[N, M] x",
        "a = ReduceMean <axes = [1], keepdims = 0> (x) b = Unsqueeze (a, u) c = Neg (a) d = Sub (x, b) y = Add (d, c)",
        "int64[1] u = {1}",
        17,
    ),
    "a reduction of another axis": (
        "float[N, M] x",
        "a = ReduceMean <axes = [1], keepdims = 0> (x) y = Unsqueeze (a, u)",
        "int64[1] u = {0}",
        17,
    ),
    "dropout whose mask is read": (
        "float[N] x",
        "a, m = Dropout (x) n = Not (m) b = Cast <to = 1> (n) y = Add (a, b)",
        "",
        17,
    ),
    "dropout that trains": ("float[N] x", "a = Dropout (x, r, t) y = Neg (a)", "float r = {0.5}, bool t = {1}", 17),
    "an output that is an input": ("float[N] x", "y = Identity (x)", "", 17),
    "concats along different axes": (
        "float[N, N] x",
        "a = Concat <axis = 0> (x, x) y = Concat <axis = 1> (a, a)",
        "",
        17,
    ),
    "slices along one axis": (
        "float[9] x",
        "a = Slice (x, first_starts, first_ends) y = Slice (a, starts, ends)",
        "int64[1] first_starts = {1}, int64[1] first_ends = {7}, int64[1] starts = {2}, int64[1] ends = {8}",
        17,
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_it_keeps(name: str) -> None:
    x, nodes, weights, opset = KEPT[name]
    model = model_of(f"g ({x}) => (y) {f'<{weights}>' if weights else ''} {{ {nodes} }}", opset=opset)
    check_golden("canonicalize", model, model)


def test_a_constant_cannot_stand_for_an_output() -> None:
    model = model_of("g () => (float[1] y) { a = Constant <value_floats = [1.0]> () y = Identity (a) }")
    check_golden("canonicalize", model, model)


def test_a_body_whose_last_weight_goes_can_go() -> None:
    before = """
        g (float[2, 3] x, int64 n, bool c) => (float[2, 3] y) {
            a, b = Loop (n, c, x) <body = l (int64 i, bool d, float[2, 3] s) => (bool e, float[2, 3] o, float[2, 3] p)
                <int64[2] t = {0, 3}> {
                    r = Reshape (s, t) e = Identity (d) o = Identity (s) p = Neg (r)
                }>
            z = Identity (b)
            y = Neg (x)
        }"""
    report = check_golden(
        "canonicalize",
        model_of(before),
        model_of("g (float[2, 3] x, int64 n, bool c) => (float[2, 3] y) { y = Neg (x) }"),
    )
    assert report.changed


def test_the_scope_of_at_is_kept() -> None:
    before = "g (float[2] x) => (float[2] y) { a = Neg (x) b = Neg (a) c = Abs (b) d = Abs (c) y = Exp (d) }"
    after = "g (float[2] x) => (float[2] y) { a = Neg (x) b = Neg (a) c = Abs (b) y = Exp (c) }"
    check_golden("at{ops=[Abs]}(canonicalize)", model_of(before), model_of(after))
