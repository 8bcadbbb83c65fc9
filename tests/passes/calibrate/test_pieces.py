"""Arrays in pieces: what observers make of them is what they would make of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxpress.passes.calibrate.pieces import PIECE, by_channels
from onnxpress.passes.equalize.expected import Reach

LARGE = [(1, 3, PIECE // 2 + 7), (2, 5, 300, 90), (PIECE // 8 + 3, 24), (3 * PIECE,), (2 * PIECE + 1, 1, 1)]


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple) | st.sampled_from(LARGE)


@given(shapes(), st.data())
def test_every_number_is_in_one_piece_under_its_channel(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    sums, count = np.zeros(shape[axis]), 0
    for piece in by_channels(array, axis):
        assert piece.numbers.size <= max(PIECE, shape[axis])
        assert np.shares_memory(piece.numbers, array)
        sums[piece.where] += piece.squares(piece.numbers.astype(np.float64))
        count += piece.numbers.size
    assert count == array.size
    rest = tuple(other for other in range(len(shape)) if other != axis % len(shape))
    np.testing.assert_allclose(sums, np.square(array.astype(np.float64)).sum(axis=rest))


@given(arrays(np.float32, (2, 3, 4, 5), elements=st.floats(width=32)), st.integers(0, 3))
def test_the_reach_of_channels_leaves_out_what_is_not_finite(array: np.ndarray, axis: int) -> None:
    reach = Reach(axis, array.shape[axis])
    reach.update(array)
    for index in range(array.shape[axis]):
        numbers = array.take(index, axis).astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        assert reach.low[index] == min(0, finite.min(initial=0))
        assert reach.high[index] == max(0, finite.max(initial=0))
        assert reach.mean_square[index] == pytest.approx(np.square(finite).sum() / max(1, len(finite)), rel=1e-9)


def test_nothing_has_no_pieces() -> None:
    assert not list(by_channels(np.zeros((0, 3), np.float32), 1))
