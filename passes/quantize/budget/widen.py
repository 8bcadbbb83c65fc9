"""As few bytes as an error of the outputs allows: weights that cost it get more bits than was asked for.

If the outputs move by no more than the error with what was asked for (as measured, all weights together), and so do
those of single samples, as a root mean square, nothing changes. Else each weight's own error is measured (`losses`),
and for a price of a byte every weight takes the type of least squared error + price * bytes: the corners of its hull.
The highest of all prices at which any weight changes whose choice keeps the error, as measured, is looked for from
above.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from ...manager.context import Context
from ...manager.weights import Reason
from ..decode import DecodeForm
from ..plan import Plan, Refusal
from ..rewrite import store
from ..static.trial import Outputs
from .knapsack import Option, hull
from .losses import Judge, losses_of
from .options import Precision, nothing
from .table import add_row

SAMPLES = 16
"""On which the outputs are measured, as where units are chosen that run in integers."""
PURPOSE = "error"


def widened(
    ctx: Context, form: DecodeForm, plans: Sequence[Plan], others: Callable[[Plan], list[Plan]], precision: Precision
) -> Sequence[Plan | Refusal]:
    """The plans; where the outputs err by more than `precision.error`, some weights in more bits, or in float."""
    assert precision.error is not None
    outputs = Outputs(ctx, islice(ctx.feeds(), SAMPLES), PURPOSE)
    first = _Error.of(outputs, partial(store, ctx, form, plans), precision.then)
    if first.keeps(precision.error):
        _tell(ctx, f"weights as asked for: {first}", precision.error)
        return plans
    weights = [[plan, *others(plan)] for plan in plans]
    losses = losses_of(weights, Judge(ctx, form, outputs, precision.memory))
    items = [
        [
            *(Option(one.written(form).mostly, loss) for one, loss in zip(each, own.outputs, strict=True)),
            Option(each[0].tensor.nbytes, 0.0),
        ]
        for each, own in zip(weights, losses, strict=True)
    ]
    fixed = [own.influence is None for own in losses]
    search = _Search(ctx, form, weights, items, fixed, outputs, precision.then)
    picks, after = search.within(precision.error)
    found: list[Plan | Refusal] = []
    for each, own, options, pick in zip(weights, losses, items, picks, strict=True):
        add_row(ctx, each, own, options, pick)
        kept = Refusal(Reason.PRECISION, hint=f"in fewer bits the outputs err by {options[0].loss ** 0.5:.3g}")
        found.append(each[pick] if pick < len(each) else kept)
    count = sum(pick > 0 for pick in picks)
    words = f"{count} of {len(plans)} weights in more bits: {after}; {first.together:.3g} as asked for"
    _tell(ctx, words, precision.error)
    return found


@dataclass(frozen=True)
class _Error:
    """rel-L2 of the outputs of all samples with all that will change, and the root mean square of that of each sample
    with what is stored alone."""

    together: float
    of_each: float

    @classmethod
    def of(cls, outputs: Outputs, change: Callable[[], None], then: Callable[[], None]) -> _Error:
        """As measured, once `change` has stored weights and `then` has changed what else there is."""

        def both() -> None:
            change()
            then()

        together, of_each = outputs.errors_after(change)
        return cls(together if then is nothing else outputs.error_after(both), of_each)

    def keeps(self, limit: float) -> bool:
        """Whether the outputs move by no more than `limit`."""
        return max(self.together, self.of_each) <= limit

    def __str__(self) -> str:
        return f"rel-L2 {self.together:.3g} of the outputs on the samples, {self.of_each:.3g} of each by what is stored"


def _tell(ctx: Context, words: str, limit: float) -> None:
    ctx.remarks.applied("model", f"{words}; {limit:g} allowed", rule="error")


@dataclass(frozen=True)
class _Search:
    """Choices along the price of a byte; weights that are `fixed` stay as asked for."""

    ctx: Context
    form: DecodeForm
    weights: Sequence[Sequence[Plan]]
    items: Sequence[Sequence[Option]]
    fixed: Sequence[bool]
    outputs: Outputs
    then: Callable[[], None]

    def within(self, limit: float) -> tuple[list[int], _Error]:
        """The cheapest choice whose error is at most `limit`, and the error; float throughout if there is none."""
        prices = self._prices()
        low, high, step = -1, len(prices), 1
        found: list[int] | None = None
        while high - low > 1:
            # from the highest price down in growing steps, then by halves: errors do not quite fall with the price
            middle = len(prices) - step if low < 0 < high - step else (low + high) // 2
            picks, step = self._at(prices[middle]), 2 * step
            error = self._error(picks)
            if error.keeps(limit):
                low, found, least = middle, picks, error
            else:
                high = middle
        if found is None:
            found = [len(plans) for plans in self.weights]
            least = self._error(found)
        return found, least

    def _prices(self) -> list[float]:
        """All at which a weight changes, ascending, just above each."""
        found = {0.0}
        for options, is_fixed in zip(self.items, self.fixed, strict=True):
            corners = [] if is_fixed else hull([one for one in options if np.isfinite(one.loss)])
            found.update((a.loss - b.loss) / (b.cost - a.cost) for a, b in itertools.pairwise(corners))
        return sorted(found)

    def _at(self, price: float) -> list[int]:
        """Every weight's best choice at a price; of equals the smaller one."""
        picks = []
        for options, is_fixed in zip(self.items, self.fixed, strict=True):
            values = [one.loss + price * (1 + 1e-9) * one.cost for one in options]
            picks.append(0 if is_fixed else min(range(len(values)), key=lambda i: (values[i], options[i].cost)))
        return picks

    def _error(self, picks: Sequence[int]) -> _Error:
        plans = [each[pick] for each, pick in zip(self.weights, picks, strict=True) if pick < len(each)]
        return _Error.of(self.outputs, partial(store, self.ctx, self.form, plans), self.then)
