"""The errors of single units, found in a bounded number of trials, the worst first; and the choice they lead to."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from onnxpress.passes.manager.context import Context, Silent
from onnxpress.passes.quantize.static.choose import GROUP, ROUNDS, TRIALS, largest, sensitivity
from onnxpress.passes.quantize.static.trial import Trials
from onnxpress.passes.quantize.static.units import Unit


class Known:
    """Units are numbers, whose errors are known; errors of several are independent."""

    progress = Silent()

    def __init__(self, errors: Sequence[float]) -> None:
        self.errors, self.count = errors, 0

    def samples_with(self, numbers: int, least: int, most: int) -> int:
        return most

    def error(self, units: Sequence[int], samples: int | None = None) -> float:
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


@pytest.mark.parametrize("factor", [0.3, 0.7, 1.0, 1.4, 5.0])
def test_a_limit_is_kept_and_used_up_however_errors_add_up(factor: float) -> None:
    """The sum of squares is off by the square of `factor`."""

    def within(aim: float) -> Sequence[Unit]:
        return cast(Sequence[Unit], range(int((aim / 0.01) ** 2 + 1e-6)))

    known: Any = Known([0.01 * factor] * 10_000)
    choice = largest(within, cast(Trials, known), 0.2)
    assert choice is not None
    assert 0.85 * 0.2 <= choice.error <= 0.2
    assert len(choice.units) == round((choice.error / 0.01 / factor) ** 2)
    assert known.count <= ROUNDS


def test_no_choice_is_made_where_none_keeps_the_limit() -> None:
    known: Any = Known([1.0])
    assert largest(lambda aim: cast(Sequence[Unit], [0]), cast(Trials, known), 0.2) is None
    assert known.count == 1


def test_a_unit_that_costs_more_than_expected_is_left() -> None:
    """The sum must be far below the limit until the choice is another one."""
    known: Any = Known([0.05, 1.0])
    choice = largest(lambda aim: cast(Sequence[Unit], [0, 1] if aim > 0.01 else [0]), cast(Trials, known), 0.2)
    assert choice is not None
    assert list(choice.units) == [0]
    assert known.count == 2
