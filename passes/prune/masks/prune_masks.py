"""Masks, from the layers of a model to the adjusted weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ....ir import Model, Tensor, Value, clone_model, tensor
from ....ir.analysis.linear import Linear
from ...calibrate.halves import Halves, observed_halves
from ...calibrate.moments import Moments
from ...calibrate.stages import in_stages
from ...calibrate.stream import observe
from ...manager.context import Context
from ...manager.weights import Outcome
from ...rewriting.layers import put
from . import bounds, shares
from .layers import maskable_layers
from .least_squares import ITERATED, Float64, adjust, work_of
from .patterns import Array, in_order
from .plan import Plan, Target, targets
from .problem import Problem
from .ridge import best_ridge
from .solve import by_magnitude, plain_scores, reordered, solve


def prune_masks(ctx: Context, plan: Plan) -> None:
    """Choose, mask and adjust; says what became of each layer, and states the bounds."""
    found = targets(ctx, plan)
    if not found:
        ctx.remarks.missed("model", "no layer has weights that a mask could be put on")
        return
    held = {target: target.tensor for target in found}
    masker = _Masker(ctx, plan, found)
    masker.run()
    for target in found if plan.needs_data else ():
        if target.is_table:
            words = "magnitudes decide in a table: rows that no sample reads would go first"
            ctx.remarks.missed(target.value.name, words, rule="table")
    for target in found:
        _report(ctx, plan, target, held[target], masker.biases)
    ctx.remarks.applied(
        "model", "zeros take as much room in the file as other weights, and as much time in most runtimes", rule="size"
    )


@dataclass
class _Masker:
    ctx: Context
    plan: Plan
    targets: Sequence[Target]
    biases: dict[Linear, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Of layers whose bias was adjusted: before all, and now."""

    @property
    def is_iterated(self) -> bool:
        """Whether second-order masks are chosen output by output: in small models."""
        work = (work_of(each.layer.groups, each.layer.k, each.layer.n) for each in self.observed)
        return sum(work) <= ITERATED

    @property
    def observed(self) -> list[Target]:
        """Those that are looked at on sample data."""
        return [target for target in self.targets if not target.is_table] if self.plan.needs_data else []

    def run(self) -> None:
        """In steps, each with an adjustment of its own; the model before all is what is aimed at."""
        before, olds = self._before()
        for step in self.ctx.progress.track(range(1, self.plan.steps + 1), "prune"):
            pattern, share = self.plan.pattern.between(step / self.plan.steps, self.plan.share)
            plan = replace(self.plan, pattern=pattern, share=share)
            parts = self._shares(plan)
            for target in self.targets:
                if before is None or target.is_table:
                    self._mask(plan, target, parts[target], None)
            if before is not None:
                for stage in in_stages(self.observed, _need):
                    self._stage(plan, before, olds, stage, parts)

    def _before(self) -> tuple[Model | None, Mapping[Linear, Linear]]:
        """A copy of the model that costs no weight, and its layers for those of the model."""
        if not self.plan.needs_data:
            return None, {}
        copies: dict[Value, Value] = {}
        before = clone_model(self.ctx.model, copies)
        by_place = {(layer.node.outputs[0], layer.slot): layer for layer in maskable_layers(before, tables=False)}
        mine = [layer for target in self.observed for layer in target.layers]
        return before, {layer: by_place[copies[layer.node.outputs[0]], layer.slot] for layer in mine}

    def _shares(self, plan: Plan) -> Mapping[Target, float]:
        if plan.allocation == "layer" or plan.pattern.unit == "n:m":
            return dict.fromkeys(self.targets, plan.share)
        if plan.allocation == "output-first":
            return shares.from_the_outputs(self.targets, plan.share)
        chosen = self.observed if plan.needs_data else self.targets
        found = shares.by_threshold(dict(self._scores(plan)), plan.share)
        return dict.fromkeys(self.targets, plan.share) | {target: found[target] for target in chosen}

    def _scores(self, plan: Plan) -> Iterator[tuple[Target, Array]]:
        """What every weight of the model costs, comparable between layers."""
        if not plan.needs_data:
            for target in self.targets:
                yield target, plain_scores(self.ctx, plan, target.matrices())
            return
        for stage in in_stages(self.observed, _need):
            moments = {layer: Moments(layer) for target in stage for layer in target.layers}
            by_input: dict[Value, list[Moments]] = {}
            for layer, one in moments.items():
                by_input.setdefault(layer.x, []).append(one)
            observe(self.ctx, by_input, purpose=f"allocation={plan.allocation}")
            for target in stage:
                yield target, self._cost_of_each(plan, target, [moments[layer] for layer in target.layers])

    def _cost_of_each(self, plan: Plan, target: Target, seen: Sequence[Moments]) -> Array:
        """`E abs(dy)^2` if a weight goes alone; with `sensitivity` as a share of `E abs(y)^2` of the layer."""
        weights = target.matrices()
        count = max(1, sum(one.count for one in seen))
        gram = np.asarray(sum(one.second for one in seen)) / count
        cost = weights**2 * np.einsum("gkk->gk", gram)[:, :, None]
        energy = float(np.einsum("gkn,gkn->", weights, gram @ weights))
        return np.asarray(cost / energy if plan.allocation == "sensitivity" and energy > 0 else cost)

    def _stage(
        self,
        plan: Plan,
        before: Model,
        olds: Mapping[Linear, Linear],
        stage: Sequence[Target],
        parts: Mapping[Target, float],
    ) -> None:
        layers = [layer for target in stage for layer in target.layers]
        found = observed_halves(self.ctx, before, ((olds[layer], layer) for layer in layers), purpose="prune")
        halves = dict(zip(layers, found, strict=True))
        for target in stage:
            seen = [halves[layer] for layer in target.layers]
            if not sum(each.count for each in seen):
                self.ctx.remarks.missed(target.value.name, "no sample reaches it: magnitudes decide", rule="mask")
            self._mask(plan, target, parts[target], seen, olds)

    def _mask(
        self,
        plan: Plan,
        target: Target,
        share: float,
        halves: Sequence[Halves] | None,
        olds: Mapping[Linear, Linear] | None = None,
    ) -> None:
        weights = target.matrices()
        order = in_order(target.layer, plan.pattern)
        has_bias = bool(plan.repair and len(target.layers) == 1 and _takes_bias(target.layer))
        problem = self._problem(plan, target, halves, olds, weights, share, centred=has_bias)
        found = solve(self.ctx, plan, weights[:, order], share, reordered(problem, order), iterated=self.is_iterated)
        back = np.argsort(order)
        found = found[:, back]
        if problem is not None and has_bias:
            self._set_bias(target.layer, problem.shift(found), olds)
        dtype = target.tensor.numpy().dtype
        _set(self.ctx, plan, target, target.layer.weight_of(found).astype(dtype))

    def _problem(
        self,
        plan: Plan,
        target: Target,
        halves: Sequence[Halves] | None,
        olds: Mapping[Linear, Linear] | None,
        weights: Float64,
        share: float,
        *,
        centred: bool,
    ) -> Problem | None:
        """What to aim at; None without data. What earlier steps took stays gone."""
        if halves is None or olds is None or not sum(each.count for each in halves):
            return None
        held = olds[target.layer].weight.const
        assert held is not None
        original = target.layer.matrices(held.numpy()).astype(np.float64)
        ridge = _ridge(plan, halves, original, share, centred=centred)
        fits = [each.whole() for each in halves]
        if not plan.repair:
            return Problem.of(fits, weights, ridge=ridge, centred=False, repaired=False)
        found = Problem.of(fits, original, ridge=ridge, centred=centred, repaired=True)
        alive = weights != 0
        if alive.all():
            return found
        layers = zip(found.best, found.second, alive, strict=True)
        return replace(found, best=np.stack([adjust(best, second, kept) for best, second, kept in layers]))

    def _set_bias(self, layer: Linear, shift: Float64, olds: Mapping[Linear, Linear] | None) -> None:
        """The bias of before, and what it takes of the means."""
        assert layer.bias is not None
        assert olds is not None
        old, now = olds[layer].node.input(layer.bias), layer.node.input(layer.bias)
        assert old is not None
        assert old.const is not None
        assert now is not None
        assert now.const is not None
        array = old.const.numpy()
        made = tensor((array + shift.reshape(-1).reshape(array.shape)).astype(array.dtype))
        graph = layer.node.graph
        assert graph is not None
        with self.ctx.rewriter.apply("bias", layer.node):
            value = self.ctx.rewriter.constant(
                graph, made, now.name, before=layer.node, as_node=now.producer is not None
            )
            self.ctx.weights.became(now.const, [made], Outcome.PRUNED, form="refit")
            self.ctx.rewriter.set_input(layer.node, layer.bias, value)
        self.biases[layer] = (old.const, made)


def _ridge(plan: Plan, halves: Sequence[Halves], weights: Float64, share: float, *, centred: bool) -> float:
    """What is asked for, or by the data; none where no weights are adjusted and no inverse is taken."""
    if plan.ridge is not None:
        return plan.ridge
    if not plan.repair and plan.criterion != "obs":
        return 0.0
    return best_ridge(halves, weights, by_magnitude(plan, weights, share), centred=centred)


def _takes_bias(layer: Linear) -> bool:
    """Whether it has a bias that is a constant with one element for each output."""
    bias = None if layer.bias is None else layer.node.input(layer.bias)
    fits = bias is not None and bias.const is not None and bias.const.size == layer.groups * layer.n
    return (
        fits and layer.op_type != "ConvTranspose" and layer.node.attr("beta", 1.0) == 1 == layer.node.attr("alpha", 1.0)
    )


def _need(target: Target) -> int:
    return sum(Halves.nbytes_for(layer, layer) for layer in target.layers)


def _set(ctx: Context, plan: Plan, target: Target, array: Array) -> None:
    held = target.tensor
    if held.numpy().tobytes() == array.tobytes():
        return
    made = tensor(array)
    with ctx.rewriter.apply("mask", *(layer.node for layer in target.layers)):
        put(ctx.rewriter, target.value, made)
    ctx.weights.became(held, [made], Outcome.PRUNED, form=plan.pattern.unit)


def _report(
    ctx: Context, plan: Plan, target: Target, held: Tensor, biases: Mapping[Linear, tuple[Tensor, Tensor]]
) -> None:
    after, before = target.tensor.numpy(), held.numpy()
    zeros = after.size - np.count_nonzero(after)
    for layer in target.layers:
        if layer in biases:
            old, new = biases[layer]
            ctx.bounds.append(bounds.of_bias(layer, old.numpy(), new.numpy()))
    words = f"{zeros} of {after.size} weights are zero, {before.size - np.count_nonzero(before)} were"
    if held is target.tensor:
        ctx.remarks.missed(target.value.name, f"nothing goes: {words}", rule="mask")
        return
    ctx.remarks.applied(target.value.name, words, rule="mask")
    for layer in target.layers:
        ctx.bounds.extend(bounds.of_weights(layer, before, after))
