"""Methods of rounding on single matrices: each keeps what its algebra says."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from onnxpress.passes.quantize.alphabet import AFFINE, SYMMETRIC
from onnxpress.passes.quantize.levels import Block, Grid, steps
from onnxpress.passes.quantize.rounding.descent import adaround, has_neighbours, neighbours, refined
from onnxpress.passes.quantize.rounding.gptq import Elimination, eliminated
from onnxpress.passes.quantize.rounding.lattice import Lattice, damped, quadratic

Array = np.ndarray[Any, np.dtype[Any]]
NAMES = ("int8", "int4", "uint4", "int2")


def codes_of(elimination: Elimination, weight: Array, lattice: Lattice) -> Array:
    """Of one matrix by GPTQ."""
    return np.asarray(eliminated([elimination], weight[None], [lattice])[0])


def gram_of(rng: np.random.Generator, k: int, rank: int) -> Array:
    """E[x'x] of correlated inputs, of which some directions may never be seen."""
    x = rng.standard_normal((3 * k, rank)) @ rng.standard_normal((rank, k))
    return damped(x.T @ x / len(x), 0.01)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Array, Lattice]:
    """A matrix, H, and steps of all kinds; some so small that numbers lie beyond the last one."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    k, n = draw(st.integers(1, 90)), draw(st.integers(1, 6))
    weight = rng.standard_normal((k, n)) * 10.0 ** rng.integers(-2, 2, n)
    grid = grid_of(weight, draw(st.sampled_from(NAMES)), draw(st.booleans()), draw(st.sampled_from([4, 32])))
    lattice = lattice_of(grid, draw(st.sampled_from([1.0, 0.6, -0.9])))
    return weight, gram_of(rng, k, draw(st.integers(1, k))), lattice


def grid_of(weight: Array, name: str, symmetric: bool, block: int) -> Grid:
    alphabet = (SYMMETRIC if symmetric else AFFINE)[name]
    parts = Block(0, block)
    return steps(weight, (0, 1), np.dtype(np.float64), alphabet=alphabet, block=parts, affine=not symmetric)


def lattice_of(grid: Grid, scale: float = 1.0) -> Lattice:
    zeros = None if grid.zeros is None else np.broadcast_to(grid.spread(grid.zeros), grid.shape)
    return Lattice(grid.alphabet, np.broadcast_to(grid.spread(grid.array), grid.shape) * scale, zeros)


def cost(weight: Array, gram: Array, lattice: Lattice, codes: Array) -> float:
    return quadratic(lattice.values(codes) - weight, gram)


@given(problems())
def test_descent_never_rises(problem):
    weight, gram, lattice = problem
    nearest = lattice.codes(weight)
    for found, start in [
        (adaround(weight, gram, lattice), nearest),
        (refined(weight, gram, lattice, nearest), nearest),
        (refined(weight, gram, lattice, gptq := codes_of(Elimination(gram), weight, lattice)), gptq),
    ]:
        assert cost(weight, gram, lattice, found) <= cost(weight, gram, lattice, start) * (1 + 1e-9) + 1e-300


@given(problems())
def test_a_row_that_had_its_turn_last_cannot_be_bettered(problem):
    """The last row of the matrix is the last to move."""
    weight, gram, lattice = problem
    found = refined(weight, gram, lattice, lattice.codes(weight))
    least = cost(weight, gram, lattice, found)
    for column in range(weight.shape[1]):
        for step in (-1, 1):
            other = found.astype(np.int64)
            other[-1, column] += step
            if lattice.alphabet.first <= other[-1, column] <= lattice.alphabet.last:
                assert cost(weight, gram, lattice, other) >= least * (1 - 1e-9)


@given(problems())
def test_adaround_stays_within_one_step(problem):
    """Inside the range; what lies beyond the last number stays there."""
    weight, gram, lattice = problem
    low, high = neighbours(weight, lattice, lattice.codes(weight))
    ends = np.stack([lattice.values(low), lattice.values(high)])
    inside = (ends.min(0) <= weight) & (weight <= ends.max(0))
    off = np.abs(lattice.values(adaround(weight, gram, lattice)) - weight)
    assert (off[inside] <= np.abs(lattice.steps[inside]) * (1 + 1e-12)).all()
    np.testing.assert_array_equal(off[~inside], np.abs(lattice.values(lattice.codes(weight)) - weight)[~inside])


@given(problems())
def test_gptq_is_optimal_brain_surgery_in_its_order(problem):
    """Against the definition: after each row the free ones are what is best given all rows that are fixed."""
    weight, gram, lattice = problem
    elimination = Elimination(gram)
    order = elimination.order
    assert (np.diff(np.diag(gram)[order]) <= 0).all()
    codes, now = np.empty(weight.shape, lattice.alphabet.held), weight.copy()
    found = codes_of(elimination, weight, lattice)
    for at, row in enumerate(order):
        codes[row] = lattice.codes(now[row], int(row))
        ratio = now[row] / lattice.steps[row]
        tie = np.abs(ratio - np.floor(ratio) - 0.5) < 1e-6
        codes[row] = np.where(tie, found[row], codes[row])
        fixed, free = order[: at + 1], order[at + 1 :]
        off = lattice.values(codes[fixed], fixed) - weight[fixed]
        now[free] = weight[free] - linalg.solve(gram[np.ix_(free, free)], gram[np.ix_(free, fixed)] @ off)
    np.testing.assert_array_equal(found, codes)


@given(problems(), st.integers(0, 99))
def test_what_is_zero_stays_so(problem, seed):
    """Whatever would be best: pruned weights stay pruned."""
    weight, gram, lattice = problem
    weight = np.where(np.random.default_rng(seed).random(weight.shape) < 0.5, 0, weight)
    gptq = codes_of(Elimination(gram), weight, lattice)
    for codes in (gptq, refined(weight, gram, lattice, gptq), adaround(weight, gram, lattice)):
        assert not lattice.values(codes)[weight == 0].any()


@pytest.mark.parametrize("name", NAMES)
def test_methods_beat_nearest_where_inputs_are_correlated(name):
    rng = np.random.default_rng(5)
    weight, gram = rng.standard_normal((64, 48)), gram_of(rng, 64, 12)
    grid = grid_of(weight, name, True, 32)
    lattice = lattice_of(grid)
    nearest = cost(weight, gram, lattice, lattice.codes(weight))
    gptq = codes_of(Elimination(gram), weight, lattice)
    found = {
        "adaround": cost(weight, gram, lattice, adaround(weight, gram, lattice)),
        "gptq": cost(weight, gram, lattice, gptq),
        "both": cost(weight, gram, lattice, refined(weight, gram, lattice, gptq)),
    }
    assert found["adaround"] < 0.4 * nearest
    assert found["both"] < found["gptq"] < 0.4 * nearest


def test_independent_inputs_leave_nothing_to_make_up_for():
    """With a diagonal H the nearest number is the best one, whatever the method."""
    rng = np.random.default_rng(6)
    weight, gram = rng.standard_normal((20, 5)), np.diag(rng.uniform(0.1, 3, 20))
    grid = grid_of(weight, "int4", True, 4)
    lattice = lattice_of(grid)
    nearest = lattice.codes(weight)
    np.testing.assert_array_equal(adaround(weight, gram, lattice), nearest)
    np.testing.assert_array_equal(refined(weight, gram, lattice, nearest), nearest)
    np.testing.assert_array_equal(codes_of(Elimination(gram), weight, lattice), nearest)


def test_float8_has_no_neighbours_to_choose_from():
    lattice = Lattice(SYMMETRIC["float8e4m3fn"], np.ones((2, 2)))
    assert not has_neighbours(lattice)
    assert has_neighbours(Lattice(SYMMETRIC["int8"], np.ones((2, 2))))


@given(st.integers(0, 9999), st.integers(1, 5), st.integers(1, 150), st.integers(1, 6), st.sampled_from(NAMES))
def test_groups_are_rounded_together_as_each_alone(seed: int, groups: int, k: int, n: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((groups, k, n))
    weight[rng.random(weight.shape) < 0.1] = 0
    places = [lattice_of(grid_of(each, name, bool(seed % 2), 32)) for each in weight]
    eliminations = [Elimination(gram_of(rng, k, k)) for _ in range(groups)]
    found = eliminated(eliminations, weight, places)
    for codes, elimination, each, lattice in zip(found, eliminations, weight, places, strict=True):
        np.testing.assert_array_equal(codes, codes_of(elimination, each, lattice))
