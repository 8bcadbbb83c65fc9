"""How much goes of each layer, where it is not the same of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .patterns import Array
from .plan import Target

FILL = 0.95
"""Of a layer, at most, where some layers go before others."""


def by_threshold(scores: Mapping[Target, Array], share: float) -> dict[Target, float]:
    """One threshold for all scores: of each layer what is below it."""
    every = np.concatenate([one.reshape(-1) for one in scores.values()])
    count = int(share * every.size + 1e-9)
    if not count:
        return dict.fromkeys(scores, 0.0)
    threshold = np.partition(every, count - 1)[count - 1]
    equal = int((every == threshold).sum())
    room = count - int((every < threshold).sum())
    return {
        target: float((one < threshold).sum() + (one == threshold).sum() * (room / equal)) / one.size
        for target, one in scores.items()
    }


def from_the_outputs(targets: Sequence[Target], share: float) -> dict[Target, float]:
    """From the last layer back, of each as much as can go, until the share of all is reached."""
    left = share * sum(target.tensor.size for target in targets)
    found: dict[Target, float] = {}
    for target in reversed(targets):
        found[target] = float(np.clip(left / target.tensor.size, 0, FILL))
        left -= found[target] * target.tensor.size
    return found
