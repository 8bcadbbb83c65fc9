"""Numbers for what constants hold: one for equal ones, and each is read whole once at most."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxpress.ir import tensor
from onnxpress.ir.tensor import Tensor
from onnxpress.passes.graph import content
from onnxpress.passes.graph.content import Contents

DTYPES = st.sampled_from([np.float32, np.float16, np.int64, np.int8, np.bool_])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
)


@given(st.lists(ARRAYS, max_size=8), st.data())
def test_a_number_stands_for_type_shape_and_every_bit(arrays, data):
    arrays += [array.copy() for array in data.draw(st.lists(st.sampled_from(arrays), max_size=4))] if arrays else []
    contents = Contents()
    numbers = [contents.number(tensor(array)) for array in arrays]
    facts = [(array.dtype, array.shape, array.tobytes()) for array in arrays]
    for a, left in zip(numbers, facts, strict=True):
        for b, right in zip(numbers, facts, strict=True):
            assert (a == b) == (left == right)


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 299))
def test_what_differs_in_one_element_only_has_another_number(marks, place):
    """Most of these agree in all elements that are looked at first."""
    arrays = []
    for mark in marks:
        arrays.append(np.zeros(300, np.float32))
        arrays[-1][place] = [0.0, -0.0, np.nan, 1.0][mark]
    contents = Contents()
    numbers = [contents.number(tensor(array)) for array in arrays]
    assert [numbers.index(number) for number in numbers] == [marks.index(mark) for mark in marks]


def test_each_is_read_whole_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[Tensor] = Counter()
    checksum = content._checksum

    def counted(one: Tensor) -> int:
        read[one] += 1
        return checksum(one)

    monkeypatch.setattr(content, "_checksum", counted)
    arrays = [np.zeros(1000, np.float32) for _ in range(50)]
    for index, array in enumerate(arrays):
        array[-1 - index // 2] = 1
    tensors = [tensor(array) for array in arrays]
    contents = Contents()
    assert len({contents.number(one) for one in tensors}) == 25
    assert read == Counter(tensors)
