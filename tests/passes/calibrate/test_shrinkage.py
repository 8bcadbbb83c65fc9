"""Shrinkage: the formula of Ledoit and Wolf, from sums, and nearer to the truth than the sample."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.passes.calibrate.shrinkage import MOST, Shrinkage


def rows(n: int, k: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 2 + random.standard_normal((1, n, k)) * np.geomspace(1, 0.05, k)


def ridge_of(x: np.ndarray, *, centred: bool) -> float:
    n = x.shape[1]
    sums = Shrinkage(1, x.shape[2])
    other = Shrinkage(1, x.shape[2])
    sums.update(x[:, : n // 3])
    other.update(x[:, n // 3 :])
    sums.merge(other)
    return sums.ridge(x.swapaxes(1, 2) @ x / n, x.mean(axis=1) * centred, n)


@pytest.mark.parametrize("centred", [False, True])
def test_sums_give_what_the_rows_give(centred: bool) -> None:
    x = rows(60, 8)
    y = x[0] - x[0].mean(axis=0) * centred
    n, k = y.shape
    s = y.T @ y / n
    noise = sum(((np.outer(row, row) - s) ** 2).sum() for row in y) / n**2
    rho = noise / ((s - np.trace(s) / k * np.eye(k)) ** 2).sum()
    assert 0 < rho < MOST
    np.testing.assert_allclose(ridge_of(x, centred=centred), rho / (1 - rho), rtol=1e-9)


def test_few_rows_are_trusted_less_and_shrinking_helps() -> None:
    k = 40
    truth = np.diag(np.geomspace(1, 0.05, k) ** 2)
    few, many = (ridge_of(rows(n, k), centred=True) for n in (30, 30_000))
    assert few > 20 * many > 0
    off = []
    for seed in range(10):
        x = rows(30, k, seed)
        y = x[0] - x[0].mean(axis=0)
        s, r = y.T @ y / len(y), ridge_of(x, centred=True)
        shrunk = (s + r * float(np.trace(s)) / k * np.eye(k)) / (1 + r)
        off.append((np.linalg.norm(shrunk - truth), np.linalg.norm(s - truth)))
    shrunk_off, sample_off = np.mean(off, axis=0)
    assert shrunk_off < 0.97 * sample_off


def test_one_row_and_none() -> None:
    assert ridge_of(rows(3, 5)[:, :1], centred=True) == MOST / (1 - MOST)
    assert Shrinkage(1, 4).ridge(np.zeros((1, 4, 4)), np.zeros((1, 4)), 1) == MOST / (1 - MOST)
