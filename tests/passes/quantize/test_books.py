"""Books: k-means against the best there is, log2 and nf4 against their definitions, and how they are stored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from onnxpress.passes.quantize.books import NF4, log2_book
from onnxpress.passes.quantize.levels import decode, encode
from onnxpress.passes.quantize.recipe import Recipe

F32 = np.dtype(np.float32)
W = np.random.default_rng(4).standard_normal((75, 25)).astype(np.float32)
MATMUL = "g (float[N,75] x) => (float[N,25] y) { y = MatMul(x, w) }"


def kmeans(weight, type_="int4"):
    grid = Recipe(type_, "tensor", levels="kmeans").grid(weight, (), F32, None)
    return grid, decode(encode(weight, grid), grid, weight.dtype)


def least_squares(points, count):
    """The least squared error that `count` clusters of points can have, by dynamic programming."""
    points = np.sort(points.astype(np.float64))
    total, squares = (np.concatenate([[0], np.cumsum(p)]) for p in (points, points**2))

    def cost(start, stop):
        return squares[stop] - squares[start] - (total[stop] - total[start]) ** 2 / max(1, stop - start)

    best = np.array([cost(0, stop) for stop in range(points.size + 1)])
    for _ in range(count - 1):
        best = np.array([min(best[at] + cost(at, stop) for at in range(stop + 1)) for stop in range(points.size + 1)])
    return best[-1]


@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform", "two humps"])
def test_kmeans_is_near_the_best_there_is(kind):
    rng = np.random.default_rng(8)
    weight = {
        "normal": rng.standard_normal(150),
        "laplace": rng.laplace(size=150),
        "uniform": rng.uniform(-1, 1, 150),
        "two humps": np.concatenate([rng.normal(-1, 0.1, 50), rng.normal(2, 0.3, 100)]),
    }[kind].astype(np.float32)
    _, decoded = kmeans(weight, "int2")
    assert np.square(weight - decoded, dtype=np.float64).sum() <= 1.001 * least_squares(weight, 4)


@given(st.integers(1, 16), st.integers(0, 99), st.booleans())
def test_no_more_different_numbers_than_the_book_has_are_exact(count, seed, has_zero):
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(np.linspace(-3, 2, 16, dtype=np.float32))[:count]
    numbers[0] *= not has_zero
    weight = rng.choice(numbers, (9, 11))
    _, decoded = kmeans(weight)
    np.testing.assert_array_equal(decoded, weight)


def test_kmeans_beats_equal_distances_at_as_many_levels():
    weight = np.random.default_rng(3).standard_normal(20_000).astype(np.float32)
    linear = Recipe("int4", "tensor").grid(weight, (), F32, None)
    errors = [weight - one for one in (kmeans(weight)[1], decode(encode(weight, linear), linear, weight.dtype))]
    squared = [float(np.square(error).mean()) for error in errors]
    assert squared[0] < 0.5 * squared[1]
    assert squared[0] < 0.011  # 0.0095 is what 16 levels can do for a normal distribution (Max 1960)


def test_zeros_stay_in_the_book_and_take_no_place_where_there_are_none():
    dense, _ = kmeans(W, "int2")
    pruned, decoded = kmeans(W * (np.abs(W) > 0.5), "int2")
    assert 0 not in dense.alphabet.entries
    assert 0 in pruned.alphabet.entries
    assert ((decoded == 0) | (np.abs(W) > 0.5)).all()


def test_the_same_weight_gives_the_same_book():
    assert np.array_equal(kmeans(W)[0].alphabet.entries, kmeans(W.copy())[0].alphabet.entries)


def test_log2_levels_are_zero_and_powers_of_two():
    book = log2_book(4).entries
    assert sorted(book) == sorted([0, *(sign * 2.0**-k for sign in (1, -1) for k in range(7))])
    assert list(log2_book(2).entries) == [-1, 0, 1]


def test_nf4_levels_are_the_quantiles_that_the_paper_defines():
    """Equal shares of a normal distribution, of its two halves apart so that 0 is a level, scaled to [-1, 1]."""
    end = 0.9677083
    right = norm.ppf(np.linspace(end, 0.5, 9)[:-1])
    left = -norm.ppf(np.linspace(end, 0.5, 8)[:-1])
    levels = np.sort(np.concatenate([right, [0], left]))
    np.testing.assert_allclose(NF4, levels / np.abs(levels).max(), atol=1e-6)


@pytest.mark.parametrize("opset", [10, 17, 25])
@pytest.mark.parametrize("levels", ["log2", "kmeans", "nf4"])
def test_executors_look_up_what_the_grid_says_and_onnxruntime_does_so_once(
    levels, opset, model, quantize, run_model, optimized
):
    proto = model(MATMUL, opset=opset, ir={10: 5, 17: 8, 25: 13}[opset], w=W)
    after, _ = quantize(proto, min_bytes=0, type="int4", levels=levels, granularity="channel")
    grid = Recipe("int4", "channel", levels=levels).grid(W, (1,), F32, None)
    decoded = run_model(after, x=np.eye(75, dtype=np.float32))["y"]
    np.testing.assert_array_equal(decoded, decode(encode(W, grid), grid, W.dtype))
    assert optimized(after) == ["MatMul"]
    again, _ = quantize(after, min_bytes=0, type="int4", levels=levels, granularity="channel")
    assert again == after


def test_weights_share_a_book_that_is_the_same_for_all(model, quantize):
    text = "g (float[N,75] x) => (float[N,25] y) { a = MatMul(x, w) b = MatMul(x, v) y = Add(a, b) }"
    after, _ = quantize(model(text, w=W, v=W + 1), type="int4", levels="nf4")
    assert [tensor.name for tensor in after.graph.initializer if "book" in tensor.name] == ["book"]
    own, _ = quantize(model(text, w=W, v=W + 1), type="int4", levels="kmeans")
    assert len([tensor.name for tensor in own.graph.initializer if "book" in tensor.name]) == 2


def test_scales_that_are_powers_of_two_change_no_bits_but_the_exponent(model, quantize):
    after, _ = quantize(model(MATMUL, w=W), levels="pow2")
    (scales,) = [np.frombuffer(one.raw_data, np.float32) for one in after.graph.initializer if one.name == "s"]
    assert (np.frexp(scales)[0] == 0.5).all()
    assert (scales * 127 >= np.abs(W).max(0)).all()
    assert (scales * 127 / 2 < np.abs(W).max(0)).all()
