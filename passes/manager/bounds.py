"""Local bounds: what a LOSSY pass promises of each value that it rewrote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LocalBound:
    """A sound bound on the error that one rewrite brings into one value, in exact arithmetic.

    For `form="linear"` (y = x W, convolutions too): abs(dy_j) <= per_channel[j] * max(abs(x)), with
    per_channel[j] = sum_i abs(dW_ij); `axis` is the axis of y that j runs along. For `form="table"` (rows read from a
    table): abs(dy) <= max(per_channel), with the largest error of each row along `axis` of the table. For
    `form="weight"` (no closed form behind it, as in a recurrent layer): abs(dW) <= per_channel along `axis` of W. For
    `form="absolute"`: abs(dy) <= per_channel along `axis` of y, whatever the input.

    For `form="product"` (y = a b, both computed): abs(dy) <= per_channel * max(abs(a)) * max(abs(b)). For `form="sum"`
    (ReduceSum and norms): abs(dy) <= per_channel * (elements of x for one of y) * max(abs(x)). For `form="state"` (of
    LSTM, GRU and RNN with their usual activations): abs(dy) <= per_channel * (what no state exceeds: the number of
    steps plus max(abs(c0)) for cells of LSTM, else max(1, abs(h0))). For `form="cut"`: of y only the elements `kept`
    along `axis` are left, and are what they were up to the other bounds of y, whose channels are those that are left.

    For `form="step"` (y rounded to steps between `low` and `high`): abs(dy) <= per_channel plus the distance of y from
    [low, high]. For `form="rounded"` (of a reader of x that is rounded so): abs(dy) <= per_channel * (half + the
    greatest distance of an x from [low, high]); `weight` names x.

    `form="scaled"` is no bound: it says that `value` of the result is the value called `weight` of the original times
    `per_channel` along `axis`, or several such factors. Bounds of `value` are then bounds in its own scale.

    `graph` and `value` say which value is meant (y, the rows, or the decoded W), `weight` is the name of W.
    `per_channel` is a float64 array of shape (channels,); of shape (1,) it holds for all channels, whatever `axis` is.
    Several bounds of one value, from several weights, add up.
    """

    by: str
    graph: str
    value: str
    form: str
    axis: int
    per_channel: NDArray[np.float64]
    weight: str = ""
    kept: NDArray[np.int64] | None = None
    low: float = 0.0
    high: float = 0.0
    half: float = 0.0
