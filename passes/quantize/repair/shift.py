"""The mean error that quantization makes in each output channel of a layer, on one half of the samples and the other.

Rounding has a mean where inputs have one. Of d = x W - x~ W~ it is

    m = E[x] dW + E[x - x~] W~,

which needs first moments alone. What half of the samples says of m is judged on the other half: adding b to the output
takes E[d^2] to E[d^2] - 2 b m + b^2. Of the errors of rounding, which are independent, E[d^2] is expected to be
sum_k E[x_k^2] dW_kn^2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....ir.analysis.linear import Linear
from .rows import row_sums

Array = np.ndarray[Any, np.dtype[Any]]
Float64 = NDArray[np.float64]
RoundTrip = Callable[[Array], Array]
GAIN = 0.01
"""The share of the squared error that a correction has to take away to be worth it."""


SAMPLES, ROWS = 16, 1 << 16
"""When so many samples gave so many rows to each half, means are known."""


class Shift:
    """Moments of the input of `layer`, which `rounded` quantizes if it is given: an observer.

    Samples go to the two halves in turn; those that hold NaN or Inf are left out.
    """

    def __init__(self, layer: Linear, rounded: RoundTrip | None = None) -> None:
        self.layer = layer
        self._rounded = rounded
        self._samples = 0
        self._sums: Float64 = np.zeros((2, 4, layer.groups, layer.k))
        """By half: of x, of x - x~, of x^2, and of (x - x~)^2."""
        self._counts = [0, 0]

    def update(self, array: Array) -> None:
        """Take one sample into account."""
        if (self._samples >= SAMPLES and min(self._counts) >= ROWS) or not np.isfinite(array).all():
            return
        half = self._samples % 2
        self._samples += 1
        x = array.astype(np.float64)
        first, count = row_sums(self.layer, x)
        self._counts[half] += count
        self._sums[half, 0] += first
        self._sums[half, 2] += row_sums(self.layer, np.square(x))[0]
        if self._rounded is not None:
            apart = x - self._rounded(array)
            self._sums[half, 1] += row_sums(self.layer, apart)[0]
            self._sums[half, 3] += row_sums(self.layer, np.square(apart))[0]

    def errors(self, before: Array, after: Array) -> tuple[float, float]:
        """The squared errors expected of the outputs, summed over channels, for the rounding of the weight and for that
        of the input: errors of elements are taken to be independent."""
        new = self.layer.matrices(after.astype(np.float64))
        change = self.layer.matrices(before.astype(np.float64)) - new
        means = self._sums.sum(0) / max(1, sum(self._counts))
        of_weight, of_input = (
            float(np.einsum("gk,gkn->", mean, np.square(m))) for mean, m in ((means[2], change), (means[3], new))
        )
        return of_weight, of_input

    def correction(self, before: Array, after: Array) -> Correction | None:
        """What to add to the outputs of a layer whose weight was `before` and is `after`: by the first half; of that,
        what makes the second half err less. None if one of the halves is empty."""
        if not all(self._counts):
            return None
        new = self.layer.matrices(after.astype(np.float64))
        change = self.layer.matrices(before.astype(np.float64)) - new
        means = self._sums / np.reshape(self._counts, (2, 1, 1, 1))
        amounts, judge = ((mean @ change + apart @ new).reshape(-1) for mean, apart, *_ in means[:, :, :, None, :])
        saved = 2 * amounts * judge - np.square(amounts)
        helps = saved > 0
        error = float((means[1, 2][:, None, :] @ np.square(change)).sum())
        return Correction(np.where(helps, amounts, 0), float(saved[helps].sum()), error)


@dataclass(frozen=True)
class Correction:
    """Amounts by channel; what they take away of the squared error on held-out samples, summed over channels, and how
    large that is expected to be."""

    amounts: Float64
    saved: float
    error: float

    @property
    def pays(self) -> bool:
        """Whether it takes enough of the error away."""
        return self.saved > GAIN * self.error
