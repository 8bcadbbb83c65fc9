"""From sites to factors: study, choose, apply, and say what was done and why the rest stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice

import numpy as np
from threadpoolctl import threadpool_limits

from ...ir import Value
from ...ir.analysis.shapes import Shapes
from ..calibrate.moments import Moments
from ..calibrate.stream import observe
from ..manager.context import Context, Feed
from . import explicit
from .allocate import Item, Pick, item_of, to_goal
from .apply import apply
from .carry import carry_out, outputs_with
from .factors import ridged
from .measure import Results, layer_ratio, mean_squared, outputs
from .plan import ALLOCATED, Plan
from .shared import bundles, look_together
from .sites import Refusal, Site, find
from .study import Choice, Study, look, studied
from .table import refused, told
from .to_error import to_error
from .work import model_macs, seen, sized

MOMENTS = 1 << 30
"""Bytes of second moments that are held at a time."""
PROBES = 8
"""Samples, the first, on which it is measured how much a layer matters."""
APART = 4
"""The probes are kept out of the moments, which fit those too well, if there are so many times more samples."""
THREADED = 1 << 22
"""Numbers of a weight from which on products are worth several threads."""
SLOWER = 0.98
"""Of the time of a layer, what its factors may take at most where time is measured."""


def factorize(ctx: Context, plan: Plan) -> None:
    """Factorize what the plan says."""
    sites, refusals = find(ctx.model.graph.walk_graphs())
    meant = [site for site in sites if _is_meant(ctx, plan, site)]
    for refusal in refusals:
        _refuse(ctx, refusal)
    if not meant:
        ctx.remarks.missed("model", "no weight can be factorized")
        return
    with threadpool_limits(limits=_blas_threads(meant), user_api="blas"):
        _factorize(ctx, plan, meant)


def _blas_threads(sites: Sequence[Site]) -> int | None:
    """One where all matrices are small: threads then cost many times more than they save, above all on a busy host."""
    return None if max(site.size for site in sites) >= THREADED else 1


def _factorize(ctx: Context, plan: Plan, sites: Sequence[Site]) -> None:
    shapes = seen(ctx, sized(ctx.model, next(islice(ctx.feeds(), 1), None)))
    studies = [studied(site, shapes, takes_bias=plan.whiten and _takes_bias(ctx, site)) for site in sites]
    if plan.whiten:
        _observe(ctx, plan, studies)
    if plan.goal in ALLOCATED:
        _to_goal(ctx, plan, studies, shapes)
    else:
        _explicitly(ctx, plan, studies, shapes)


def _takes_bias(ctx: Context, site: Site) -> bool:
    return site.bias_place is not None and ctx.selects(site.bias_place[0])


def _is_meant(ctx: Context, plan: Plan, site: Site) -> bool:
    nodes = [node for reader in site.readers for node in reader.nodes]
    names = [*(value.name for value in site.weights), *(node.label for node in nodes)]
    if any(fnmatchcase(name, pattern) for name in names for pattern in plan.exclude):
        return False
    return all(map(ctx.selects, nodes))


def _refuse(ctx: Context, refusal: Refusal) -> None:
    held = refusal.value.const
    if held is not None and held.size > 1:
        ctx.remarks.missed(refusal.value.name, refusal.reason, rule="refused", bytes_at_stake=held.nbytes)


def _observe(ctx: Context, plan: Plan, studies: Sequence[Study]) -> None:
    """Second moments of the inputs, in as many walks as the memory makes necessary."""
    batches: list[list[tuple[Study, Moments]]] = []
    known: dict[object, Moments] = {}
    room = 0
    for study in studies:
        layer = study.site.layer
        if layer is None or Moments.nbytes_for(layer) > MOMENTS:
            continue
        key = layer.x if study.site.kind == "matmul" and layer.slot == 1 else study.site
        need = 0 if key in known else Moments.nbytes_for(layer)
        if not batches or need > room:
            batches.append([])
            known, room = {}, MOMENTS
        batches[-1].append((study, known.setdefault(key, Moments(layer))))
        room -= need
    for batch in batches:
        observers: dict[Value, list[Moments]] = {}
        for study, moments in batch:
            mine = observers.setdefault(study.site.x, [])
            if moments not in mine:
                mine.append(moments)
        left_out = observe(ctx, observers, purpose="whiten", samples=_unprobed(ctx))
        for study, moments in batch:
            if study.site.x in left_out:
                continue
            if moments.count and moments.gram.any():
                _learn(study, moments, plan.ridge)
            else:
                study.is_reached = False


def _unprobed(ctx: Context) -> Iterable[Feed]:
    """The samples but for the probes, if there are enough."""
    is_much = sum(1 for _ in islice(ctx.feeds(), APART * PROBES)) == APART * PROBES
    return _Behind(ctx, PROBES if is_much else 0)


class _Behind:
    """The samples behind some, each time anew."""

    def __init__(self, ctx: Context, count: int) -> None:
        self._ctx, self._count = ctx, count

    def __iter__(self) -> Iterator[Feed]:
        return islice(self._ctx.feeds(), self._count, None)


def _learn(study: Study, moments: Moments, ridge: float | None) -> None:
    second = study.site.moments(moments.gram)
    study.mean = study.site.moments(moments.mean)
    study.gram = ridged(second, moments.ridge() if ridge is None else ridge)


# ---- without allocation


def _explicitly(ctx: Context, plan: Plan, studies: Sequence[Study], shapes: Shapes) -> None:
    picks = []
    for study in ctx.progress.track(list(studies), "factorize"):
        found = explicit.choose(study, plan)
        reason = found if isinstance(found, str) else _too_slow(ctx, plan, study, found, shapes)
        if isinstance(found, Choice) and not reason:
            picks.append(Pick((study,), found, found.error, 0.0))
        else:
            refused(ctx, study, reason)
        study.forget()
    told(ctx, plan, apply(ctx, plan, picks))


def _too_slow(ctx: Context, plan: Plan, study: Study, choice: Choice, shapes: Shapes) -> str:
    if plan.latency != "measure":
        return ""
    factors = study.factors(choice.method, choice.ranks).rounded(study.site.dtype)
    ratio = layer_ratio(ctx, study.site, factors, shapes)
    return "" if ratio is None or ratio <= SLOWER else f"the factors take {ratio:.2f} of the time here"


# ---- with a goal for the whole model


def _to_goal(ctx: Context, plan: Plan, studies: Sequence[Study], shapes: Shapes) -> None:
    for study in ctx.progress.track(list(studies), "ranks"):
        if study.is_reached and (plan.goal == "bytes" or study.site.kind != "table"):
            look(study, plan.methods, plan.share, timed=plan.is_timed)
            _keep_fast(ctx, plan, study, shapes)
        study.forget()
    before = outputs(ctx) if ctx.samples is not None else []
    if before:
        _weigh(ctx, plan, studies, before[:PROBES])
    items, fixed = _items(ctx, plan, studies, shapes)
    if plan.goal == "error":
        to_error(ctx, plan, studies, items, before)
        return
    picks = to_goal(items, fixed, plan.number)
    share = fixed + sum(pick.cost for pick in picks)
    if share > plan.number:
        what = f"{share:.3f} of the {plan.goal} stay, not {plan.number}: no more can be factorized"
        ctx.remarks.missed("model", what, rule="goal")
    carry_out(ctx, plan, studies, picks)


def _keep_fast(ctx: Context, plan: Plan, study: Study, shapes: Shapes) -> None:
    """Of the choices those that are faster here, if that is asked for."""
    if plan.latency == "measure":
        study.choices = [one for one in study.choices if not _too_slow(ctx, plan, study, one, shapes)]


def _weigh(ctx: Context, plan: Plan, studies: Sequence[Study], before: Results) -> None:
    """How much each layer matters: the squared error of the outputs over its own, if it alone is factorized.

    Where that changes no output at all, as in a branch that no sample takes, nothing is known of it: it stays.
    """
    is_fine = any(np.asarray(value).dtype.kind == "f" for value in before[0].values())
    for study in ctx.progress.track([study for study in studies if study.choices], "sensitivity"):
        choice = sorted(study.choices, key=lambda one: one.error)[len(study.choices) // 2]
        if choice.error > 0:
            pick = Pick((study,), choice, 0.0, 0.0)
            squared = mean_squared(before, outputs_with(ctx, plan, [pick], len(before)))
            study.weight = max(1e-9, min(1e3, squared / choice.error))
            if squared == 0 and is_fine:
                study.choices, study.is_reached = [], False


def _items(ctx: Context, plan: Plan, studies: Sequence[Study], shapes: Shapes) -> tuple[list[Item], float]:
    """What is to be allocated, and the share of the cost that nothing changes."""
    all_macs = model_macs(ctx.model, shapes) or 1.0
    all_bytes = float(sum(v.const.nbytes for g in ctx.model.walk_graphs() for v in g.values() if v.const is not None))
    by_macs = {"macs": 1.0, "bytes": 0.0}.get(plan.goal, 0.5) / all_macs
    by_bytes = {"macs": 0.0, "bytes": 1.0}.get(plan.goal, 0.5) / (all_bytes or 1.0)

    def cost(some: Sequence[Study], choice: Choice | None) -> float:
        if choice is None:
            return sum(by_macs * study.macs + by_bytes * study.bytes for study in some)
        return by_macs * choice.macs + by_bytes * choice.bytes

    items = []
    together = bundles(studies) if plan.shared and "svd" in plan.methods else [(study,) for study in studies]
    for some in together:
        may_share = len(some) > 1 and plan.latency != "measure" and all(study.is_reached for study in some)
        shared = look_together(some, plan.share, timed=plan.is_timed) if may_share else []
        items.append(item_of(some, shared, cost))
        for study in some:
            study.forget()
    return items, 1.0 - sum(cost([study], None) for study in studies) if plan.goal != "error" else 0.0
