"""Trials: what the outputs would lose if some units ran in integers; the model is as before afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from itertools import islice
from typing import Any, Protocol

import numpy as np

from ....errors import ExecutionError, UserError
from ....ir import Model
from ...manager.context import Context, Feed
from ...manager.deployed import deployed
from .units import Unit

Results = Sequence[Mapping[str, Any]]


class Emits(Protocol):
    """Lets units run in integers."""

    def emit(self, units: Sequence[Unit]) -> None:
        """Change the model."""
        ...


class Outputs:
    """Outputs of the model on some samples, and how far they move."""

    def __init__(self, ctx: Context, feeds: Iterable[Feed], purpose: str = "mode=static") -> None:
        if ctx.backend is None:
            raise UserError(f"{purpose} needs an executor")
        self._ctx, self._backend = ctx, ctx.backend
        self._feeds = list(feeds)
        self.problem = ""
        """The words of the executor if it refused a choice."""
        self._reference = self._run(ctx.model, len(self._feeds))

    def samples_with(self, numbers: int, least: int, most: int) -> int:
        """How many of the first samples have so many numbers in the outputs, from `least` to `most`."""
        count = total = 0
        for found in self._reference[:most]:
            if count >= least and total >= numbers:
                break
            count, total = count + 1, total + sum(np.size(each) for each in found.values() if each is not None)
        return count

    def error_after(self, change: Callable[[], None], samples: int | None = None) -> float:
        """rel-L2 of the outputs over all samples (or the first ones) once the model is changed, the worst of the
        outputs."""
        count = len(self._feeds) if samples is None else min(samples, len(self._feeds))
        found = self._after(change, count)
        return float("inf") if found is None else pooled_error(self._reference[:count], found)

    def errors_after(self, change: Callable[[], None]) -> tuple[float, float]:
        """The same over all samples, and the root mean square of those of single samples."""
        found = self._after(change, len(self._feeds))
        if found is None:
            return float("inf"), float("inf")
        return pooled_error(self._reference, found), error_of_each(self._reference, found)

    def _after(self, change: Callable[[], None], count: int) -> Results | None:
        """The outputs of the changed model on the first samples; None if the executor refuses it."""
        before = self._ctx.checkpoint()
        change()
        try:
            return self._run(self._ctx.model, count)
        except ExecutionError as error:
            self.problem = str(error)
            return None
        finally:
            self._ctx.rollback(before)

    def _run(self, model: Model, count: int) -> Results:
        session = deployed(self._backend, model)
        fed = {port.name for port in session.inputs}
        found = []
        for feed in self._feeds[:count]:
            self._ctx.progress.ticks += 1  # a sign of life
            found.append(session.run({name: value for name, value in feed.items() if name in fed}))
        return found


class Trials(Outputs):
    """How far outputs move if units run in integers."""

    def __init__(self, ctx: Context, emitter: Emits, samples: int) -> None:
        super().__init__(ctx, islice(ctx.feeds(), samples))
        self._emitter = emitter

    def of(self, emitter: Emits) -> Trials:
        """The same for what another emits; outputs of the model are as they were."""
        made = copy(self)
        made._emitter, made.problem = emitter, ""
        return made

    def error(self, units: Sequence[Unit], samples: int | None = None) -> float:
        """rel-L2 of the outputs over all samples (or the first ones), the worst of the outputs."""
        return self.error_after(lambda: self._emitter.emit(units), samples)


def pooled_error(before: Results, after: Results) -> float:
    """sqrt(sum |dy|^2 / sum |y|^2) over samples, the worst of the outputs; infinity where finite numbers are lost. Of
    outputs that are not float the share of unequal elements."""
    names = dict.fromkeys(name for one in before for name in one)
    return max(
        (_error([(a[name], b[name]) for a, b in zip(before, after, strict=True)]) for name in names), default=0.0
    )


def error_of_each(before: Results, after: Results) -> float:
    """The root mean square of |dy| / |y| of single samples, the worst of the outputs: a few samples with much to say do
    not drown the others. One that says less than most (an empty image, in which nothing is found) counts by the median.
    """
    worst = 0.0
    for name in dict.fromkeys(name for one in before for name in one):
        pairs = [(a[name], b[name]) for a, b in zip(before, after, strict=True)]
        reals = [(a, b) for a, b in pairs if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.shape == b.shape]
        finite = [(a.astype(np.float64)[at], b.astype(np.float64)[at]) for a, b in reals for at in [_both_finite(a, b)]]
        norms = [float(np.linalg.norm(a)) for a, _ in finite]
        usual = float(np.median(norms)) if norms else 0.0
        errors = []
        for (a, b), norm in zip(finite, norms, strict=True):
            off = float(np.linalg.norm(a - b))
            errors.append(off / max(norm, usual) if off > 0 and max(norm, usual) > 0 else 0.0)
        worst = max(worst, float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.0)
    return worst


def _both_finite(a: Any, b: Any) -> Any:
    """Where numbers can be compared; `pooled_error` says if finite ones were lost."""
    return np.isfinite(a) & np.isfinite(b)


def _error(pairs: Sequence[tuple[Any, Any]]) -> float:
    off = size = 0.0
    for old, new in pairs:
        if not isinstance(old, np.ndarray) or not isinstance(new, np.ndarray):
            continue
        if old.shape != new.shape:
            return float("inf")
        if old.dtype.kind != "f":
            off, size = off + float(np.sum(old != new)), size + old.size
            continue
        a, b = old.astype(np.float64), new.astype(np.float64)
        same = np.isfinite(a)
        if not np.array_equal(same, np.isfinite(b)):
            return float("inf")
        a, b = a[same], b[same]
        off, size = off + float(np.square(a - b).sum()), size + float(np.square(a).sum())
    if off == 0:
        return 0.0
    return float(np.sqrt(off / size)) if size > 0 else float("inf")
