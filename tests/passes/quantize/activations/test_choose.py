"""The errors of single units: found in a bounded number of trials, the worst first."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from onnxpress.passes.manager.context import Context, Silent
from onnxpress.passes.quantize.static.choose import GROUP, TRIALS, sensitivity
from onnxpress.passes.quantize.static.trial import Trials
from onnxpress.passes.quantize.static.units import Unit


class Known:
    """Units are numbers, whose errors are known; errors of several are independent."""

    progress = Silent()

    def __init__(self, errors: Sequence[float]) -> None:
        self.errors, self.count = errors, 0

    def samples_with(self, numbers: int, least: int, most: int) -> int:
        return most

    def error(self, units: Sequence[int], samples: int) -> float:
        self.count += 1
        return float(sum(self.errors[unit] ** 2 for unit in units)) ** 0.5


def found(errors: Sequence[float], limit: float) -> tuple[dict[int, float], int]:
    known: Any = Known(errors)
    units = cast(Sequence[Unit], range(len(errors)))
    own = sensitivity(cast(Context, known), units, cast(Trials, known), limit)
    return cast(dict[int, float], own), known.count


def test_a_few_units_are_all_told_apart() -> None:
    errors = [0.1 + index for index in range(30)]
    own, trials = found(errors, 0.05)
    assert own == pytest.approx(dict(enumerate(errors)))
    assert trials <= TRIALS


@pytest.mark.parametrize("count", [1, GROUP, 290, 5000])
def test_trials_are_bounded_however_many_units_err(count: int) -> None:
    own, trials = found([1.0] * count, 0.05)
    assert trials <= TRIALS
    assert own == pytest.approx(dict.fromkeys(range(count), 1.0))


def test_the_worst_of_many_are_told_apart() -> None:
    errors = [0.01] * 400
    errors[17] = errors[213] = 2.0
    own, _ = found(errors, 0.05)
    assert (own[17], own[213]) == (2.0, 2.0)
    assert max(error for unit, error in own.items() if unit not in (17, 213)) < 0.1


def test_groups_that_cost_next_to_nothing_are_not_looked_into() -> None:
    _, trials = found([1e-4] * 80, 0.05)
    assert trials == 80 / GROUP
