"""Where error is born: two models compared value by value, each place judged on inputs without error.

Both are flattened to what they execute on a feed (`flatten`), and values that stand for the same thing are paired
(`correspond`). The second model is cut at its paired values. What lies between such a value and the nearest ones before
it, its region, is run on the values of the first model: the error that comes out was born there, and not carried there.

A pair is a claim, which numbers may refute. If a region gives wrong values when it is fed those of the first model, and
right ones when it is fed its own, then what it is fed means something else in the second model: the pairs at its inputs
that differ are given up, and the region reaches beyond them. So it is with a name that was handed to another value, and
with channels that are rescaled and scaled back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...ir import Backend, Model
from ..manager.context import Progress
from .comparison import Comparison, Measure, Region
from .flatten import Flattener, Way
from .lab import Feeds
from .mechanism import explain


@dataclass(frozen=True)
class Birth:
    """The error at one value: `born` in its region alone, `total` with all that was carried there, and what the region
    alone costs the outputs (None if not asked for). Each is the worst rel-l2 over the feeds.

    `body` is the path of the body that the node stands in, empty for the main graph. `original` is what the value is
    called in the first model, where that is something else.
    """

    value: str
    node: str
    op_type: str
    body: str
    original: str
    born: float
    total: float
    cost: float | None = None
    mechanism: str = ""


@dataclass(frozen=True)
class Births:
    """The places, the worst first: `compared` values correspond, `renamed` of them under another name; `apart` do not
    and lie in regions. `unjudged` are those whose region does not run alone, `refuted` those whose name or structure
    claims a correspondence that numbers refute."""

    places: list[Birth]
    compared: int
    apart: int
    renamed: int = 0
    unjudged: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()


def births(
    original: Model,
    result: Model,
    feeds: Feeds,
    backend: Backend,
    measure: Measure,
    progress: Progress,
    *,
    top: int = 10,
) -> Births:
    """Compare `result` with `original` on `feeds`; the `top` worst places are explained and their cost measured.

    ExecutionError if one of the models does not run. Values of one feed are in memory at a time, besides what the worst
    feed of each region was.
    """
    first, second = Flattener(original, backend), Flattener(result, backend)
    groups: dict[tuple[Way, Way], tuple[Comparison, list[Mapping[str, Any]]]] = {}
    for feed in feeds:
        (way, one), (other_way, other) = first.flatten(feed), second.flatten(feed)
        if (way, other_way) not in groups:
            groups[way, other_way] = Comparison(one, other, backend, measure, progress), []
        groups[way, other_way][1].append(feed)
    worst: dict[tuple[str, str], tuple[Region, Comparison]] = {}
    values: dict[tuple[str, str], bool] = {}
    apart: set[tuple[str, str]] = set()
    unjudged: dict[str, None] = {}
    refuted: dict[str, None] = {}
    for comparison, group in groups.values():
        for region in comparison.run(group):
            origin = comparison.second.name(region.value)
            values[origin] = values.get(origin, False) or not region.pair.by_name
            if origin not in worst or region.born > worst[origin][0].born:
                worst[origin] = region, comparison
        apart |= comparison.apart()
        unjudged |= dict.fromkeys(comparison.unjudged)
        refuted |= dict.fromkeys(comparison.refuted)
    ranked = sorted((pair for pair in worst.values() if pair[0].born > 0), key=lambda pair: -pair[0].born)
    places = [_birth(*pair, explained=rank < top) for rank, pair in enumerate(ranked)]
    return Births(
        places, len(values), len(apart - values.keys()), sum(values.values()), tuple(unjudged), tuple(refuted)
    )


def _birth(region: Region, comparison: Comparison, *, explained: bool) -> Birth:
    node = region.value.producer
    assert node is not None
    where, name = comparison.second.origin(node), comparison.second.name(region.value)
    called = comparison.first.name(region.pair.before)
    birth = Birth(
        name.label,
        where.label,
        node.op_type,
        where.body,
        called.label if called.label != name.label else "",
        region.born,
        region.total,
    )
    if not explained or region.place is None:
        return birth
    mechanism = explain(region.place, comparison.first, comparison.second, comparison.backend)
    return replace(birth, cost=comparison.cost(region), mechanism=mechanism)
