"""`canonicalize`: what every rule makes of the case that it is for, and of variants of it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from onnx import ModelProto

from onnxpress.specs import check_golden, check_variants, model_of


class Case(NamedTuple):
    """Nodes from `x` to `y` and what they become, with the weights of both."""

    x: str
    before: str
    after: str
    weights: str = ""
    left: str = ""
    y: str = ""
    """The type of `y` where it is not that of `x`."""
    opset: int = 17

    def models(self) -> tuple[ModelProto, ModelProto]:
        y = f"{self.y or self.x.split(' x')[0]} y"
        sides = ((self.before, self.weights), (self.after, self.left))
        before, after = (
            model_of(f"g ({self.x}) => ({y}) {f'<{weights}>' if weights else ''} {{ {nodes} }}", opset=self.opset)
            for nodes, weights in sides
        )
        return before, after


def unneeded(x: str, node: str, weights: str = "", opset: int = 17, reads: str = "Neg") -> Case:
    """A node that computes `a` and goes."""
    return Case(x, f"{node} y = {reads} (a)", f"y = {reads} (x)", weights, opset=opset)


UNNEEDED = {
    "identity": unneeded("float[N] x", "a = Identity (x)"),
    "dropout": unneeded("float[N] x", "a = Dropout (x)"),
    "dropout before opset 12": unneeded("float[N] x", "a = Dropout <ratio = 0.5> (x)", opset=11),
    "dropout told not to train": unneeded("float[N] x", "a = Dropout (x, r, t)", "float r = {0.5}, bool t = {0}"),
    "cast": unneeded("float[N] x", "a = Cast <to = 1> (x)"),
    "cast-like": unneeded("float[N] x", "a = CastLike (x, x)"),
    "reshape": unneeded("float[N, 3, M] x", "a = Reshape (x, t)", "int64[3] t = {0, 3, -1}"),
    "reshape of static sizes": unneeded("float[2, 3] x", "a = Reshape (x, t)", "int64[2] t = {-1, 3}"),
    "reshape that takes 0 for 0": unneeded(
        "float[N, 3] x", "a = Reshape <allowzero = 1> (x, t)", "int64[2] t = {-1, 3}"
    ),
    "flatten": unneeded("float[N, M] x", "a = Flatten (x)"),
    "flatten of static sizes": unneeded("float[1, 4] x", "a = Flatten <axis = 0> (x)"),
    "squeeze": unneeded("float[2, 3] x", "a = Squeeze (x)"),
    "unsqueeze": unneeded("float[N] x", "a = Unsqueeze <axes: ints = []> (x)", opset=11),
    "transpose": unneeded("float[N, M] x", "a = Transpose <perm = [0, 1]> (x)"),
    "transpose of a vector": unneeded("float[N] x", "a = Transpose (x)"),
    "slice": unneeded(
        "float[N, 3] x",
        "a = Slice (x, s, e, d, t)",
        "int64[2] s = {0, 0}, int64[2] e = {9223372036854775807, 3}, int64[2] d = {0, -1}, int64[2] t = {1, 1}",
    ),
    "slice of all axes": unneeded(
        "float[N, 3] x", "a = Slice (x, s, e)", "int32[2] s = {0, 0}, int32[2] e = {2147483647, 5}"
    ),
    "slice before opset 10": unneeded("float[N, 3] x", "a = Slice <starts = [0], ends = [3], axes = [1]> (x)", opset=9),
    "pad": unneeded("float[N, 3] x", "a = Pad (x, p)", "int64[4] p = {0, 0, 0, 0}"),
    "pad by reflection": unneeded("float[N, 3] x", 'a = Pad <mode = "reflect"> (x, p)', "int64[4] p = {0, 0, 0, 0}"),
    "pad before opset 11": unneeded("float[N, 3] x", "a = Pad <pads = [0, 0, 0, 0]> (x)", opset=10),
    "expand by ones": unneeded("float[N, 3] x", "a = Expand (x, s)", "int64[2] s = {1, 1}"),
    "expand to a suffix": unneeded("float[N, 3] x", "a = Expand (x, s)", "int64[1] s = {3}"),
    "tile": unneeded("float[N, 3] x", "a = Tile (x, r)", "int64[2] r = {1, 1}"),
    "concat": unneeded("float[N, 3] x", "a = Concat <axis = 1> (x)"),
    "split": unneeded("float[N, 3] x", "a = Split <axis = 1> (x)"),
    "sum": unneeded("float[N] x", "a = Sum (x)"),
    "max": unneeded("float[N] x", "a = Max (x)"),
    "min": unneeded("float[N] x", "a = Min (x)"),
    "mean": unneeded("float[N] x", "a = Mean (x)"),
    "reduce over no axes": unneeded("float[N, 3] x", "a = ReduceSum <noop_with_empty_axes = 1> (x)"),
    "times one": unneeded("float[N, 3] x", "a = Mul (c, x)", "float[1, 3] c = {1, 1, 1}"),
    "times a scalar one": unneeded("float[N, 3] x", "a = Mul (x, c)", "float c = {1}"),
    "by one": unneeded("double[N, 3] x", "a = Div (x, c)", "double[1] c = {1}"),
    "minus zero": unneeded("float[N, 3] x", "a = Sub (x, c)", "float c = {0}"),
    "plus minus zero": unneeded("float[N, 3] x", "a = Add (x, c)", "float c = {-0.0}"),
    "to the first": unneeded("float[N, 3] x", "a = Pow (x, c)", "float c = {1}"),
    "plus zero of integers": unneeded("int64[N] x", "a = Add (x, c)", "int64 c = {0}"),
    "by one of integers": unneeded("int32[N] x", "a = Div (x, c)", "int32 c = {1}"),
    "and true": unneeded("bool[N] x", "a = And (x, c)", "bool c = {1}", reads="Not"),
    "or false": unneeded("bool[N] x", "a = Or (c, x)", "bool c = {0}", reads="Not"),
    "xor false": unneeded("bool[N] x", "a = Xor (x, c)", "bool c = {0}", reads="Not"),
    "where true": unneeded("float[2] x, float[2] z", "a = Where (c, x, z)", "bool[2] c = {1, 1}"),
    "where false": unneeded("float[2] x, float[2] z", "a = Where (c, z, x)", "bool c = {0}"),
    "not of not": unneeded("bool[N] x", "b = Not (x) a = Not (b)", reads="Not"),
    "neg of neg": unneeded("int32[N] x", "b = Neg (x) a = Neg (b)", reads="Abs"),
    "cast there and back": unneeded("float[N] x", "b = Cast <to = 11> (x) a = Cast <to = 1> (b)"),
    "transpose there and back": unneeded(
        "float[N, M, K] x", "b = Transpose <perm = [1, 2, 0]> (x) a = Transpose <perm = [2, 0, 1]> (b)"
    ),
    "backwards twice": unneeded("float[N, M] x", "b = Transpose (x) a = Transpose (b)"),
    "squeeze of unsqueeze": unneeded(
        "float[N, M] x", "b = Unsqueeze (x, u) a = Squeeze (b, v)", "int64[1] u = {-1}, int64[1] v = {2}"
    ),
    "unsqueeze of squeeze": unneeded(
        "float[N, 1, M] x", "b = Squeeze (x, u) a = Unsqueeze (b, v)", "int64[1] u = {-2}, int64[1] v = {1}"
    ),
    "unsqueeze of squeeze before opset 13": unneeded(
        "float[N, 1, M] x", "b = Squeeze <axes = [1]> (x) a = Unsqueeze <axes = [1]> (b)", opset=11
    ),
    "views of static sizes": unneeded(
        "float[2, 3] x", "b = Flatten <axis = 0> (x) a = Reshape (b, t)", "int64[2] t = {2, -1}"
    ),
}
MERGED = {
    "times zero": Case(
        "int64[N] x, int64[2] z",
        "a = Mul (z, c) y = Concat <axis = 0> (x, a)",
        "y = Concat <axis = 0> (x, a)",
        "int64 c = {0}",
        "int64[2] a = {0, 0}",
        y="int64[M]",
    ),
    "relu twice": Case("float[N] x", "a = Relu (x) b = Relu (a) y = Neg (b)", "a = Relu (x) y = Neg (a)"),
    "abs twice": Case("int32[N] x", "a = Abs (x) b = Abs (a) y = Neg (b)", "a = Abs (x) y = Neg (a)"),
    "floor twice": Case("float[N] x", "a = Floor (x) y = Floor (a)", "y = Floor (x)"),
    "round twice": Case("float[N] x", "a = Round (x) y = Round (a)", "y = Round (x)"),
    "clip twice": Case(
        "float[N] x",
        "a = Clip (x, l, h) b = Clip (a, l, h) y = Neg (b)",
        "a = Clip (x, l, h) y = Neg (a)",
        "float l = {0}, float h = {6}",
        "float l = {0}, float h = {6}",
    ),
    "clip twice before opset 11": Case(
        "float[N] x",
        "a = Clip <min = 0.0> (x) b = Clip <min = 0.0> (a) y = Neg (b)",
        "a = Clip <min = 0.0> (x) y = Neg (a)",
        opset=10,
    ),
    "cast of cast": Case(
        "int32[N] x", "a = Cast <to = 7> (x) y = Cast <to = 1> (a)", "y = Cast <to = 1> (x)", y="float[N]"
    ),
    "transpose of transpose": Case(
        "float[N, M, K] x",
        "a = Transpose <perm = [1, 2, 0]> (x) y = Transpose <perm = [1, 2, 0]> (a)",
        "y = Transpose <perm = [2, 0, 1]> (x)",
        y="float[K, N, M]",
    ),
    "reshape of reshape": Case(
        "float[N, 6] x",
        "a = Reshape (x, s) y = Reshape (a, t)",
        "y = Reshape (x, t)",
        "int64[3] s = {0, 2, 3}, int64[2] t = {-1, 3}",
        "int64[2] t = {-1, 3}",
        y="float[M, 3]",
    ),
    "reshape that copies what a reshape copied": Case(
        "float[N, 6] x",
        "a = Reshape (x, s) y = Reshape (a, t)",
        "y = Reshape (x, t)",
        "int64[3] s = {0, 2, 3}, int64[4] t = {0, 3, 2, 1}",
        "int64[4] t = {0, 3, 2, 1}",
        y="float[N, 3, 2, 1]",
    ),
    "reshape that copies a static size": Case(
        "float[4, N, 1] x",
        "a = Squeeze (x, s) y = Reshape (a, t)",
        "y = Reshape (x, t)",
        "int64[1] s = {2}, int64[3] t = {0, 1, -1}",
        "int64[3] t = {0, 1, -1}",
        y="float[4, 1, N]",
    ),
    "reshape of squeeze": Case(
        "float[N, 1, 6] x",
        "a = Squeeze (x, s) y = Reshape (a, t)",
        "y = Reshape (x, t)",
        "int64[1] s = {1}, int64[2] t = {-1, 3}",
        "int64[2] t = {-1, 3}",
        y="float[M, 3]",
    ),
    "squeeze of squeeze": Case(
        "float[1, N, 1, M, 1] x",
        "a = Squeeze (x, s) y = Squeeze (a, t)",
        "y = Squeeze (x, axes)",
        "int64[1] s = {2}, int64[2] t = {0, -1}",
        "int64[3] axes = {0, 2, 4}",
        y="float[N, M]",
    ),
    "unsqueeze of unsqueeze": Case(
        "float[N, M] x",
        "a = Unsqueeze (x, s) y = Unsqueeze (a, t)",
        "y = Unsqueeze (x, axes)",
        "int64[1] s = {1}, int64[2] t = {0, -1}",
        "int64[3] axes = {0, 2, 4}",
        y="float[1, N, 1, M, 1]",
    ),
    "unsqueeze of unsqueeze before opset 13": Case(
        "float[N, M] x",
        "a = Unsqueeze <axes = [1]> (x) y = Unsqueeze <axes = [0]> (a)",
        "y = Unsqueeze <axes = [0, 2]> (x)",
        y="float[1, N, 1, M]",
        opset=11,
    ),
    "mean and unsqueeze": Case(
        "float[N, M] x",
        "a = ReduceMean <axes = [-1], keepdims = 0> (x) y = Unsqueeze (a, u)",
        "y = ReduceMean <axes = [-1]> (x)",
        "int64[1] u = {1}",
        y="float[N, 1]",
    ),
    "sum and squeeze": Case(
        "float[N, M] x",
        "a = ReduceSum (x, r) y = Squeeze (a, r)",
        "y = ReduceSum <keepdims = 0> (x, r)",
        "int64[1] r = {1}",
        "int64[1] r = {1}",
        y="float[N]",
    ),
    "maximum of all and unsqueeze": Case(
        "float[N, M] x",
        "a = ReduceMax <keepdims = 0> (x) y = Unsqueeze (a, u)",
        "y = ReduceMax (x)",
        "int64[2] u = {0, 1}",
        y="float[1, 1]",
    ),
    "the place of the maximum and unsqueeze": Case(
        "float[N, M] x",
        "a = ArgMax <axis = -1, keepdims = 0> (x) y = Unsqueeze (a, u)",
        "y = ArgMax <axis = -1> (x)",
        "int64[1] u = {1}",
        y="int64[N, 1]",
    ),
    "gather and unsqueeze": Case(
        "float[N, M, 4] x",
        "a = Gather <axis = 2> (x, i) y = Unsqueeze (a, u)",
        "y = Gather <axis = 2> (x, index)",
        "int64 i = {-1}, int64[1] u = {-1}",
        "int64[1] index = {-1}",
        y="float[N, M, 1]",
    ),
    "concat of concat": Case(
        "float[N, 2] x, float[N, 3] z",
        "a = Concat <axis = 1> (x, z) y = Concat <axis = -1> (z, a, x)",
        "y = Concat <axis = -1> (z, x, z, x)",
        y="float[N, 10]",
    ),
    "concat of concat of concat": Case(
        "float[N, 2] x",
        "a = Concat <axis = 1> (x, x) b = Concat <axis = 1> (a, x) c = Concat <axis = -1> (b, a) "
        "y = Concat <axis = 1> (x, c)",
        "a = Concat <axis = 1> (x, x) y = Concat <axis = 1> (x, a, x, a)",
        y="float[N, 12]",
    ),
    "slice of slice": Case(
        "float[N, M] x",
        "a = Slice (x, first_starts, first_ends, first_axes) y = Slice (a, starts, ends, axes, steps)",
        "y = Slice (x, starts_1, ends_1, axes_1, steps_1)",
        """int64[1] first_starts = {1}, int64[1] first_ends = {3}, int64[1] first_axes = {1},
        int64[1] starts = {0}, int64[1] ends = {4}, int64[1] axes = {0}, int64[1] steps = {2}""",
        "int64[2] starts_1 = {0, 1}, int64[2] ends_1 = {4, 3}, int64[2] axes_1 = {0, 1}, int64[2] steps_1 = {2, 1}",
        y="float[K, L]",
    ),
}
CASES = {**UNNEEDED, **MERGED}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    before, after = CASES[name].models()
    report = check_golden("canonicalize", before, after)
    assert report.after is None or report.after.file_bytes <= report.before.file_bytes


@pytest.mark.parametrize("name", CASES)
def test_variants_of_the_golden_cases_stay_right(name: str) -> None:
    check_variants("canonicalize", CASES[name].models()[0])
