"""Calibration: the ranges of values on the sample data, one sample in memory at a time.

With a cache, everything that any method needs is observed and kept, so that another method finds its ranges there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...ir import Value
from ..manager.context import Context, Feed
from .cache import Cache
from .ranges import Outside, Range
from .statistics import PERCENTILE, Method, Statistics
from .stream import MEMORY, observe


def calibrate(
    ctx: Context,
    values: Iterable[Value],
    *,
    method: Method = "minmax",
    percentile: float = PERCENTILE,
    bits: int = 8,
    symmetric: bool = False,
    cache: str = "",
    purpose: str = "calibration",
    memory: int = MEMORY,
    samples: Iterable[Feed] | None = None,
) -> dict[Value, Range]:
    """The ranges of `values` on the sample data of `ctx` (or on `samples`), zero in each.

    `percentile` (50 to 100), `bits` and `symmetric` are those of `Statistics.range`, `cache` and the others those of
    `observed`. Values that cannot be observed, or of which no finite number was seen, have no range.
    """
    found = observed(
        ctx,
        values,
        histogram=Statistics.need_histogram(method),
        cache=cache,
        purpose=purpose,
        memory=memory,
        samples=samples,
    )
    ranges = {}
    for value, statistics in ctx.progress.track(list(found.items()), f"ranges by {method}"):
        within = statistics.range(method, percentile=percentile, bits=bits, symmetric=symmetric)
        if within is not None:
            ranges[value] = within
    return ranges


def observed(
    ctx: Context,
    values: Iterable[Value],
    *,
    histogram: bool = True,
    cache: str = "",
    purpose: str = "calibration",
    memory: int = MEMORY,
    samples: Iterable[Feed] | None = None,
) -> dict[Value, Statistics]:
    """The statistics of `values` on the sample data; of those that cannot be observed there are none.

    `cache` names a file that keeps them: what it holds of the same model and the same data is not observed again. Data
    need not be given if it holds everything. A file of another model or other data is made anew, with a remark. Raises
    UserError if there are no data and the file does not do, or if the file is something else.
    """
    wanted = list(dict.fromkeys(values))
    if not cache:
        return _observe(ctx, wanted, histogram, purpose, memory, samples)
    feeds = ctx.samples if samples is None else samples
    kept = Cache.open(ctx, Path(cache), feeds)
    missing = kept.missing(wanted)
    if missing:
        kept.require_data(missing)
        kept.keep(missing, _observe(ctx, missing, True, purpose, memory, samples))
        kept.save()
    return kept.statistics(wanted)


def saturation(
    ctx: Context,
    ranges: Mapping[Value, Range],
    *,
    purpose: str = "saturation",
    memory: int = MEMORY,
    samples: Iterable[Feed] | None = None,
) -> dict[Value, Outside]:
    """How many numbers lie outside the ranges on the sample data (or on `samples`), exactly: a walk of its own."""
    found = {value: Outside(within) for value, within in ranges.items()}
    observe(ctx, {value: [each] for value, each in found.items()}, purpose=purpose, memory=memory, samples=samples)
    return found


def _observe(
    ctx: Context,
    values: Sequence[Value],
    histogram: bool,
    purpose: str,
    memory: int,
    samples: Iterable[Feed] | None,
) -> dict[Value, Statistics]:
    found = {value: Statistics(histogram=histogram) for value in values}
    unseen = observe(
        ctx, {value: [each] for value, each in found.items()}, purpose=purpose, memory=memory, samples=samples
    )
    for value in unseen:
        del found[value]
    return found
