"""Shrinkage: the formula of Ledoit and Wolf, from sums, and nearer to the truth than the sample."""

from __future__ import annotations

import numpy as np

from onnxpress.passes.calibrate.shrinkage import MOST, Shrinkage


def rows(n: int, k: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((1, n, k)) * np.geomspace(1, 0.05, k)


def ridge_of(x: np.ndarray) -> float:
    n = x.shape[1]
    sums, other = Shrinkage(1), Shrinkage(1)
    sums.update(x[:, : n // 3])
    other.update(x[:, n // 3 :])
    sums.merge(other)
    return sums.ridge(x.swapaxes(1, 2) @ x / n, n)


def test_sums_give_what_the_rows_give() -> None:
    x = rows(60, 8)
    n, k = x.shape[1:]
    s = x[0].T @ x[0] / n
    noise = sum(((np.outer(row, row) - s) ** 2).sum() for row in x[0]) / n**2
    rho = noise / ((s - np.trace(s) / k * np.eye(k)) ** 2).sum()
    assert 0 < rho < MOST
    np.testing.assert_allclose(ridge_of(x), rho / (1 - rho), rtol=1e-9)


def test_few_rows_are_trusted_less_and_shrinking_helps() -> None:
    k = 40
    truth = np.diag(np.geomspace(1, 0.05, k) ** 2)
    few, many = (ridge_of(rows(n, k)) for n in (30, 30_000))
    assert few > 20 * many > 0
    off = []
    for seed in range(10):
        x = rows(30, k, seed)
        s, r = x[0].T @ x[0] / 30, ridge_of(x)
        shrunk = (s + r * float(np.trace(s)) / k * np.eye(k)) / (1 + r)
        off.append((np.linalg.norm(shrunk - truth), np.linalg.norm(s - truth)))
    shrunk_off, sample_off = np.mean(off, axis=0)
    assert shrunk_off < 0.97 * sample_off


def test_one_row_and_none() -> None:
    assert ridge_of(rows(3, 5)[:, :1]) < 1e-9
    assert Shrinkage(1).ridge(np.zeros((1, 4, 4)), 0) == MOST / (1 - MOST)
