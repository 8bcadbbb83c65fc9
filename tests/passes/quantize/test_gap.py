"""Whatever type, levels and granularity: decoded is a nearest number, zero is zero, what is not finite is refused."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onnxpress.errors import UserError
from onnxpress.passes.manager.weights import Outcome, Reason
from onnxpress.passes.quantize.alphabet import AFFINE, Book, Float8, Integers
from onnxpress.passes.quantize.levels import Block, absolute_errors, decode, encode, fit
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.recipe import BOOK_BITS, Recipe

TYPES = ["int8", "uint8", "int4", "uint4", "int2", "uint2", "int16", "float8e4m3fn", "float8e5m2"]
F32 = np.dtype(np.float32)


@st.composite
def recipes(draw, levels=("linear", "pow2", "log2", "kmeans", "nf4")):
    chosen = draw(st.sampled_from(levels))
    types = BOOK_BITS.get(chosen, TYPES if chosen == "linear" else list(AFFINE))
    kind = draw(st.sampled_from(types))
    symmetric = draw(st.booleans()) or chosen in BOOK_BITS or kind not in AFFINE
    return Recipe(
        kind, draw(st.sampled_from(["tensor", "channel", "block"])), draw(st.integers(2, 9)), symmetric, chosen
    )


@st.composite
def weights(draw):
    """Arrays of several ranks: spread over orders, shifted, sparse, constant, of one element, near the least float."""
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    made = rng.standard_normal(shape)
    kind = draw(st.sampled_from(["normal", "shifted", "sparse", "constant", "scaled", "denormal", "huge", "zero row"]))
    if kind == "shifted":
        made = made + draw(st.sampled_from([-5, 5, 100]))
    elif kind == "sparse":
        made = made * (rng.random(shape) < 0.3)
    elif kind == "constant":
        made = np.full(shape, draw(st.sampled_from([0.0, -0.0, 1.0, -3.25])))
    elif kind == "scaled" and shape:
        made = made * 10.0 ** rng.integers(-6, 6, shape[:1] + (1,) * (len(shape) - 1))
    elif kind in ("denormal", "huge"):
        made = made * (1e-39 if kind == "denormal" else 1e37)
    elif kind == "zero row" and shape:
        made[0] = 0
    return np.asarray(made, np.float32)


def grid_of(weight, recipe, may_be_negative=True):
    axes = () if recipe.granularity == "tensor" or not weight.ndim else (0,)
    block = None
    if recipe.granularity == "block" and weight.ndim:
        axes, block = tuple(range(weight.ndim)), Block(weight.ndim - 1, recipe.block)
    return recipe.grid(weight, axes, F32, block, may_be_negative=may_be_negative)


def gaps(weight, grid):
    """For each number of a weight the distance between the two numbers of its grid that it lies between; that of the
    nearest two where it lies outside."""
    steps = np.abs(np.broadcast_to(grid.spread(grid.array), weight.shape).astype(np.float64))
    known = grid.alphabet
    if isinstance(known, Integers):
        return steps
    if isinstance(known, Float8):
        every = np.unique(np.arange(256, dtype=np.uint8).view(known.held).astype(np.float64))
        entries = every[np.isfinite(every)]
    else:
        entries = known.entries.astype(np.float64)
    if entries.size < 2:
        return np.full(weight.shape, np.inf)
    at = np.clip(np.searchsorted(entries, weight / steps), 1, entries.size - 1)
    return (entries[at] - entries[at - 1]) * steps


@example(np.float32(0.3), Recipe("int2", "block", 2), True)
@example(np.array([1e-45, 0, -1e-45], np.float32), Recipe("int8", "tensor", 2, False), True)
@given(weights(), recipes(("linear", "pow2", "log2", "nf4")), st.booleans())
def test_decoded_is_within_half_the_local_gap(weight, recipe, may_be_negative):
    grid = grid_of(weight, recipe, may_be_negative)
    assert may_be_negative or (grid.array > 0).all()
    if not fit(grid, weight.dtype):
        return
    decoded = decode(encode(weight, grid), grid, weight.dtype)
    error = np.abs(weight.astype(np.float64) - decoded)
    ulp = 2.0**-21 * np.abs(weight).astype(np.float64) + 1e-5 * gaps(weight, grid) + np.finfo(np.float32).tiny
    assert (error <= gaps(weight, grid) / 2 + ulp).all()


@given(weights(), recipes())
def test_zero_is_exact_and_what_a_bound_says_is_the_error(weight, recipe):
    grid = grid_of(weight, recipe)
    codes = encode(weight, grid)
    decoded = decode(codes, grid, weight.dtype)
    assert (decoded[weight == 0] == 0).all()
    assert codes.dtype == grid.alphabet.held
    assert grid.size == grid.array.size
    everything = absolute_errors(weight, grid, tuple(range(weight.ndim)), ())
    np.testing.assert_allclose(everything, np.abs(weight.astype(np.float64) - decoded).sum(), rtol=1e-9)
    assert np.array_equal(decode(encode(decoded, grid.choose(codes)), grid, weight.dtype), decoded)


@given(weights(), recipes(("kmeans",)))
def test_of_a_codebook_every_number_is_a_nearest_one(weight, recipe):
    grid = grid_of(weight, recipe)
    assert isinstance(grid.alphabet, Book)
    assert grid.alphabet.entries.size <= 1 << grid.alphabet.bits
    steps = np.broadcast_to(grid.spread(grid.array), weight.shape).astype(np.float64)[..., None]
    least = np.abs(weight.astype(np.float64)[..., None] - grid.alphabet.entries.astype(np.float64) * steps).min(-1)
    error = np.abs(weight.astype(np.float64) - decode(encode(weight, grid), grid, weight.dtype))
    assert (error <= least * (1 + 1e-6) + 2.0**-21 * np.abs(weight) + np.finfo(np.float32).tiny).all()


@given(weights(), recipes(("linear",)))
def test_decoding_what_is_decoded_changes_nothing(weight, recipe):
    """The grid is the same for what lies on it: levels that were numbers of the grid stay where they are."""
    grid = grid_of(weight, recipe)
    if not fit(grid, weight.dtype):
        return
    decoded = decode(encode(weight, grid), grid, weight.dtype)
    assert np.array_equal(decode(encode(decoded, grid), grid, weight.dtype), decoded)


def test_chosen_codes_stand_for_the_weight_and_must_fit():
    """The interface for rounding by another rule than the nearest."""
    weight = np.array([[0.2, 0.9], [-0.4, 2.0]], np.float32)
    grid = Recipe("int4", "tensor").grid(weight, (), F32, None)
    up = encode(weight, grid) + np.array([[1, 0], [1, 0]])
    other = grid.choose(up)
    assert np.array_equal(encode(weight, other), up)
    errors = np.abs(weight - decode(up, other, weight.dtype)).sum()
    np.testing.assert_allclose(absolute_errors(weight, other, (0, 1), ()), errors, rtol=1e-6)
    for bad in (up[:1], up + 100, up + 0.5, up - 8, up + 8):
        with pytest.raises(ValueError, match="codes"):
            grid.choose(bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "options",
    [{"type": kind} for kind in TYPES]
    + [{"type": "uint4", "symmetric": False}, {"type": "int8", "levels": "pow2"}]
    + [{"type": "int4", "levels": levels} for levels in BOOK_BITS]
    + [{"type": "int4", "format": "nbits"}, {"type": "int4", "form": "dq"}],
)
def test_what_is_not_finite_is_refused(options, bad, model, quantize):
    weight = np.ones((48, 24), np.float32)
    weight[5, 7] = bad
    _, report = quantize(model("g (float[M,48] x) => (float[M,24] y) { y = MatMul(x, w) }", w=weight), **options)
    assert [(entry.outcome, entry.reason) for entry in report.weights] == [(Outcome.KEPT, Reason.NON_FINITE)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": "nf4"}, "levels=nf4 takes type=int4, uint4, not int8"),
        ({"levels": "log2", "type": "int16"}, "levels=log2 takes type="),
        ({"levels": "kmeans", "type": "float8e5m2"}, "levels=kmeans takes type="),
        ({"levels": "pow2", "type": "float8e5m2"}, "levels=pow2 takes type="),
        ({"levels": "kmeans", "symmetric": False}, "levels=kmeans has no zero points"),
        ({"levels": "nf4", "type": "int4", "form": "dq"}, "form=dq has no place"),
        ({"levels": "nf4", "type": "int4", "format": "nbits"}, "format=nbits has no place"),
    ],
)
def test_options_that_contradict_each_other_are_said(options, message):
    with pytest.raises(UserError, match=message):
        QuantizeInsert(**options)
