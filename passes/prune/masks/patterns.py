"""Patterns: which weights of a layer may go together, and the choice of those that do.

Scores are arrays `[k, n]`, inputs by outputs, of what is lost with each weight; the least go first. Of equal scores the
one that comes first in memory goes, so that the choice is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ....ir.analysis.linear import Linear

Array = np.ndarray[Any, np.dtype[Any]]
Mask = NDArray[np.bool_]
Unit = Literal["weight", "n:m", "block"]


@dataclass(frozen=True)
class Pattern:
    """`weight`: any; `n:m`: of `m` weights in a row along the inputs of an output at most `n` stay; `block`: blocks of
    `block` inputs by outputs stay or go as a whole (those at the ends may be smaller)."""

    unit: Unit
    n: int = 2
    m: int = 4
    block: tuple[int, int] = (4, 4)

    def misfit(self, layer: Linear) -> str:
        """Why a layer cannot have the pattern; empty if it can."""
        width = _row(layer)
        if self.unit != "n:m" or width % self.m == 0:
            return ""
        what = "input channels a group" if layer.kernel else "inputs"
        return f"{layer.weight.name!r} has {width} {what}, which {self.m} does not divide"

    def stay(self, scores: Array, share: float, *, each_output: bool = False) -> Mask:
        """Which weights stay if the share `share` goes (of n:m, all but n of m): of the layer, or of `each_output`."""
        match self.unit:
            case "n:m":
                return self._stay_in_groups(scores, self.m - self.n)
            case "block":
                return self._stay_in_blocks(scores, share)
        if each_output:
            return np.stack([_all_but(column, share) for column in scores.T], axis=1)
        return _all_but(scores.reshape(-1), share).reshape(scores.shape)

    def _stay_in_groups(self, scores: Array, gone: int) -> Mask:
        k, n = scores.shape
        grouped = scores.reshape(k // self.m, self.m, n)
        worst = np.argsort(grouped, axis=1, kind="stable")[:, :gone]
        stays = np.ones(grouped.shape, bool)
        np.put_along_axis(stays, worst, False, axis=1)
        return stays.reshape(k, n)

    def _stay_in_blocks(self, scores: Array, share: float) -> Mask:
        (k, n), (rows, columns) = scores.shape, self.block
        padded = np.zeros((-(-k // rows) * rows, -(-n // columns) * columns))
        padded[:k, :n] = scores
        sums = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).sum((1, 3))
        stays = _all_but(sums.reshape(-1), share).reshape(sums.shape)
        return np.repeat(np.repeat(stays, rows, 0), columns, 1)[:k, :n]

    def between(self, done: float, share: float) -> tuple[Pattern, float]:
        """The pattern and share on the way to this one, `done` from 0 to 1 of it, by a cubic schedule (Zhu and Gupta
        2017): quick at first, and slow at the end."""
        part = 1 - (1 - done) ** 3
        if self.unit != "n:m":
            return self, share * part
        return Pattern("n:m", self.m - max(1, round((self.m - self.n) * part)), self.m), share


def in_order(layer: Linear, pattern: Pattern) -> NDArray[np.int64]:
    """The inputs of a layer in the order in which a pattern counts them: n:m of a convolution goes along the channels
    of one tap of the kernel, as hardware has it, and not along the taps of one channel."""
    inputs = np.arange(layer.k)
    if pattern.unit != "n:m" or layer.op_type != "Conv":
        return inputs
    return inputs.reshape(_row(layer), -1).T.reshape(-1)


def _row(layer: Linear) -> int:
    """Inputs in a row: channels of a group for convolutions."""
    return layer.shape[1] if layer.op_type == "Conv" else layer.k


def _all_but(scores: Array, share: float) -> Mask:
    stays = np.ones(scores.size, bool)
    stays[np.argsort(scores, kind="stable")[: int(share * scores.size + 1e-9)]] = False
    return stays
