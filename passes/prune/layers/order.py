"""In which order branches go: those first that are needed least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ....ir import Model, Value, clone_model
from ....ir.tensor import Array
from ...calibrate.stream import observe
from ...manager.context import Context
from ..channels.goals import relative_error, tried
from .branches import Branch

Drop = Callable[[Branch], object]


def in_order(ctx: Context, criterion: str, found: Sequence[Branch], drop: Drop) -> Iterator[Branch]:
    """The branches, from the first to go; those inside one that went are left out."""
    if criterion == "output-error":
        yield from _by_error(ctx, found, drop)
        return
    scores = _scores(ctx, criterion, found)
    left = sorted(found, key=lambda branch: scores[branch])
    while left:
        first, *left = left
        yield first
        left = _outside(first, left)


def _outside(gone: Branch, left: Sequence[Branch]) -> list[Branch]:
    """Of branches that are left, those that are there when one has gone."""
    return [branch for branch in left if branch is not gone and branch.add not in gone.nodes]


def _by_error(ctx: Context, found: Sequence[Branch], drop: Drop) -> Iterator[Branch]:
    """Greedily: next goes the branch with which the outputs err least when it is gone as well."""
    original: Model = clone_model(ctx.model, {})
    left, gone = list(found), list[Branch]()
    while left:
        errors = []
        for branch in left:
            with tried(ctx):
                for one in (*gone, branch):
                    drop(one)
                errors.append(relative_error(ctx, original, ctx.model))
        best = left[int(np.argmin(errors))]
        gone = [*_outside(best, gone), best]
        left = _outside(best, left)
        yield best


def _scores(ctx: Context, criterion: str, found: Sequence[Branch]) -> dict[Branch, float]:
    match criterion:
        case "mean-activation":
            return _activity(ctx, found)
        case "random":
            return dict(zip(found, ctx.rng.random(len(found)), strict=True))
    power = 1 if criterion == "l1" else 2
    return {branch: _magnitude(branch, power) for branch in found}


def _magnitude(branch: Branch, power: int) -> float:
    """The mean of abs(w), or the root mean square, over the weights of its layers."""
    held = [layer.weight.const.numpy() for layer in branch.layers if layer.weight.const is not None]
    total = sum(float((np.abs(array.astype(np.float64)) ** power).sum()) for array in held)
    return float((total / max(1, sum(array.size for array in held))) ** (1 / power))


class _Size:
    """E abs(x): an observer of one value."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, array: Array) -> None:
        """Take one sample into account."""
        self.total += float(np.abs(array.astype(np.float64)).sum())
        self.count += array.size


def _activity(ctx: Context, found: Sequence[Branch]) -> dict[Branch, float]:
    """E abs(f(x)) / E abs(x): how much the branch adds to what passes by; infinite where no sample comes."""
    seen: dict[Value, _Size] = {value: _Size() for branch in found for value in (branch.given, branch.skip)}
    observe(ctx, {value: [size] for value, size in seen.items()}, purpose="criterion=mean-activation")
    sizes = {value: size.total / size.count if size.count else np.inf for value, size in seen.items()}
    return {branch: float(np.divide(sizes[branch.given], sizes[branch.skip] or 1.0)) for branch in found}
