"""Goals that take several cuts: the largest share within an error, and a share that is reached in steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ....errors import UserError
from ....ir import Model, clone_model
from ....ir.tensor import Array
from ...calibrate.stream import samples_of
from ...manager.context import Context
from .plan import Plan

BISECTIONS = 7
"""So the share is known to 1/128."""


def in_steps(plan: Plan) -> Iterator[Plan]:
    """The plans of each step, so that what is gone follows 1 - (1 - t / steps)^3 (Zhu and Gupta 2017): much at first,
    while there is most to choose from. Goals of a step speak of the model as the step before left it."""
    done = 0.0
    for step in range(1, plan.steps + 1):
        now = 1 - (1 - step / plan.steps) ** 3
        yield replace(
            plan,
            sparsity=None if plan.sparsity is None else 1 - (1 - now * plan.sparsity) / (1 - done * plan.sparsity),
            macs=_left(plan.macs, now, done),
            bytes_=_left(plan.bytes_, now, done),
            steps=1,
        )
        done = now


def _left(keep: float | None, now: float, done: float) -> float | None:
    return None if keep is None else (1 - now * (1 - keep)) / (1 - done * (1 - keep))


@contextmanager
def tried(ctx: Context) -> Iterator[None]:
    """What is done inside is taken back."""
    moment = ctx.checkpoint()
    try:
        yield
    finally:
        ctx.rollback(moment)


def within_error(ctx: Context, limit: float, cut: Callable[[float], None]) -> float:
    """The largest share, found by bisection, at which the outputs on the sample data differ by at most `limit` (rel-L2,
    of the worst output and sample); the model is left uncut. 0 if none holds it."""
    original = clone_model(ctx.model, {})
    held, too_much = 0.0, 1.0
    for _ in range(BISECTIONS):
        share = (held + too_much) / 2
        with tried(ctx):
            cut(share)
            error = relative_error(ctx, original, ctx.model)
        held, too_much = (share, too_much) if error <= limit else (held, share)
    return held


def relative_error(ctx: Context, a: Model, b: Model) -> float:
    """norm2(b - a) / norm2(a) of the worst output in the worst sample; infinite where a number is none, and for strings
    that differ."""
    return max(relative_errors(ctx, a, b), default=0.0)


def relative_errors(ctx: Context, a: Model, b: Model) -> Iterator[float]:
    """That of the worst output in each sample."""
    if ctx.backend is None:
        raise UserError("a limit on the error needs an executor")
    first, second = (ctx.backend.prepare(model) for model in (a, b))
    for feed in samples_of(ctx, "error"):
        ctx.progress.ticks += 1
        one, other = (s.run({p.name: feed[p.name] for p in s.inputs if p.name in feed}) for s in (first, second))
        yield max((_error(one[name], other[name]) for name in one), default=0.0)


def _error(a: Any, b: Any) -> float:
    """Of arrays; of sequences the worst of their elements; what is optional and missing must be so in both."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max(map(_error, a, b), default=0.0)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return _ratio(a, b)
    return 0.0 if a is None and b is None else np.inf


def _ratio(a: Array, b: Array) -> float:
    if a.dtype.kind in "OUS" or a.shape != b.shape:
        return 0.0 if np.array_equal(a, b) else np.inf
    x, y = a.astype(np.float64), b.astype(np.float64)
    size, error = float(np.linalg.norm(x)), float(np.linalg.norm(y - x))
    if not np.isfinite(size) or not np.isfinite(error):
        return np.inf
    return error / size if size else (0.0 if error == 0 else np.inf)
