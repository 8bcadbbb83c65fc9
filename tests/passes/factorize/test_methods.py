"""Each method: exact where the array has its rank, no worse with more, and refinement never harms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.passes.factorize.factors import SPECS, Factors, energy, matrices, squared_error, with_best_last
from onnxpress.passes.factorize.ranks import by_energy, numerical, variational
from onnxpress.passes.factorize.refine import refined
from onnxpress.passes.factorize.study import factors_of
from onnxpress.passes.factorize.svd import decompose
from onnxpress.passes.factorize.work import numbers

EXACT = ("svd", "spatial", "tucker", "depthwise")
Shape = tuple[int, ...]


def ranks_of(method: str, shape: Shape, rank: int) -> tuple[int, ...]:
    """The ranks that a method can have, at most `rank`."""
    _, n, c, a, b = shape
    match method:
        case "tucker":
            return min(rank, c), min(rank, n)
        case "spatial":
            return (min(rank, c * a, n * b),)
        case "depthwise":
            return (min(rank, n, a * b),)
        case "cp":
            return (rank,)
    return (min(rank, c * a * b, n),)


def made(method: str, shape: Shape, rank: int, seed: int) -> Factors:
    """Random factors."""
    g, n, c, a, b = shape
    ranks = ranks_of(method, shape, rank)
    r, o = ranks[0], ranks[-1]
    sizes = {
        "svd": [(g, r, c, a, b), (g, n, r)],
        "nmf": [(g, r, c, a, b), (g, n, r)],
        "spatial": [(g, r, c, a), (g, n, r, b)],
        "tucker": [(g, r, c), (g, o, r, a, b), (g, n, o)],
        "cp": [(g, r, c), (g, r, a), (g, r, b), (g, n, r)],
        "depthwise": [(g, c, r, a, b), (g, n, c, r)],
    }[method]
    random = np.random.default_rng(seed)
    arrays = [random.standard_normal(size) for size in sizes]
    return Factors(method, ranks, tuple(map(np.abs, arrays) if method == "nmf" else arrays))


def moments(k: int, groups: int, seed: int) -> Any:
    x = np.random.default_rng(seed).standard_normal((groups, 3 * k, k)) * np.linspace(1, 0.05, k)
    return x.swapaxes(1, 2) @ x / (3 * k)


shapes = st.tuples(*(st.integers(low, high) for low, high in [(1, 2), (2, 6), (2, 5), (1, 3), (1, 3)]))


@given(shapes, st.sampled_from(EXACT), st.integers(1, 3), st.integers(0, 99), st.booleans())
def test_an_array_of_a_rank_is_found_exactly(
    shape: tuple[int, ...], method: str, rank: int, seed: int, weighted: bool
) -> None:
    truth = made(method, shape, rank, seed)
    kernel = truth.product()
    gram = moments(int(np.prod(shape[2:])), shape[0], seed) if weighted else None
    found = factors_of(kernel, gram, method, truth.ranks)
    np.testing.assert_allclose(found.product(), kernel, atol=1e-6 * max(1, np.abs(kernel).max()))
    assert found.size == numbers(shape, method, truth.ranks)


@settings(max_examples=10)
@given(shapes, st.integers(1, 2), st.integers(0, 99))
def test_terms_of_rank_one_are_found(shape: tuple[int, ...], rank: int, seed: int) -> None:
    kernel = made("cp", shape, rank, seed).product()
    found = factors_of(kernel, None, "cp", (rank,))
    assert squared_error(kernel, found.product(), None) <= 0.5 * energy(kernel, None)
    if rank == 1:
        np.testing.assert_allclose(found.product(), kernel, atol=1e-5 * max(1, np.abs(kernel).max()))


def test_non_negative_factors_are_non_negative_and_near() -> None:
    kernel = made("nmf", (1, 20, 30, 1, 1), 3, 0).product()
    found = factors_of(kernel, None, "nmf", (3,))
    assert all((array >= 0).all() for array in found.arrays)
    assert squared_error(kernel, found.product(), None) < 1e-3 * energy(kernel, None)


@given(shapes, st.sampled_from(sorted(set(SPECS) - {"nmf"})), st.integers(1, 2), st.integers(0, 99), st.booleans())
def test_refinement_never_harms(shape: tuple[int, ...], method: str, rank: int, seed: int, weighted: bool) -> None:
    kernel = np.random.default_rng(seed).standard_normal(shape)
    gram = moments(int(np.prod(shape[2:])), shape[0], seed) if weighted else None
    ranks = ranks_of(method, shape, rank)
    before = factors_of(kernel, gram, method, ranks)
    after = refined(before, kernel, gram, 3)
    least, most = (squared_error(kernel, each.product(), gram) for each in (after, before))
    assert least <= most * (1 + 1e-9) + 1e-12


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_dropped_values_are_the_expected_error(k: int, n: int, seed: int) -> None:
    kernel = np.random.default_rng(seed).standard_normal((1, n, k, 1, 1))
    for gram in (None, moments(k, 1, seed)):
        svd = decompose(kernel, gram)
        for rank in range(1, min(k, n) + 1):
            squared = squared_error(kernel, svd.cut(kernel, rank).product(), gram)
            np.testing.assert_allclose(svd.dropped(rank), squared, atol=1e-9 * energy(kernel, gram))


@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 99))
def test_no_other_factors_of_a_rank_are_better_on_the_data(k: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    kernel, gram = random.standard_normal((1, n, k, 1, 1)), moments(k, 1, seed)
    best = squared_error(kernel, decompose(kernel, gram).cut(kernel, 1).product(), gram)
    plain = squared_error(kernel, decompose(kernel, None).cut(kernel, 1).product(), gram)
    other = with_best_last(made("svd", (1, n, k, 1, 1), 1, seed), kernel, gram)
    assert best <= min(plain, squared_error(kernel, other.product(), gram)) * (1 + 1e-9)


def test_plain_svd_leaves_the_next_singular_value() -> None:
    matrix = np.random.default_rng(0).standard_normal((12, 9))
    values = np.linalg.svd(matrix, compute_uv=False)
    kernel = matrix.T[None, :, :, None, None]
    cut = decompose(kernel, None).cut(kernel, 4)
    assert np.isclose(np.linalg.norm(matrix - matrices(cut.product())[0], 2), values[4])


@pytest.mark.parametrize("rank", [1, 5, 20])
def test_variational_bayes_finds_the_rank_under_noise(rank: int) -> None:
    random = np.random.default_rng(rank)
    signal = random.standard_normal((200, rank)) @ random.standard_normal((rank, 120))
    noisy = signal + 0.3 * random.standard_normal(signal.shape)
    assert variational(np.linalg.svd(noisy, compute_uv=False), noisy.shape) == rank


def test_variational_bayes_finds_nothing_in_noise() -> None:
    noise = np.random.default_rng(0).standard_normal((200, 120))
    assert variational(np.linalg.svd(noise, compute_uv=False), noise.shape) <= 1


def test_ranks_of_nothing() -> None:
    zeros = np.zeros(4)
    assert numerical(zeros, (4, 4), 1e-7) == by_energy(zeros, 0.9) == variational(zeros, (4, 4)) == 0


def test_energy_is_kept() -> None:
    assert [by_energy(np.array([6.0, 3.0, 1.0]), share) for share in (0.0, 0.6, 0.61, 0.9, 1.0)] == [0, 1, 2, 2, 3]
