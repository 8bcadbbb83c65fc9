"""Recognize operators that a model spells out: the pass.

First every rule looks where it would fit, whatever the opset. From that follow the opsets that would be worth raising
to, within what the option allows; the model is raised to the highest of them that something comes of. Then the rules
are applied. ROUNDING: each file of rules states its operation counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from onnx import TensorProto

from ....ir import Graph, Node
from ...manager.base import Effect, Pass
from ...manager.context import Context
from ...manager.options import option
from ...rewriting.driver import QUIET, apply_rules
from ...rewriting.rule import Guard, Match, Rule
from ..executor import why_not_run
from ..opset import LOWEST, raise_opset
from .operators import ALL, NAMES, Operator, operators


@dataclass(frozen=True)
class Recognize(Pass):
    """Replace decomposed activations, normalizations and attention by the standard operators that they spell out."""

    name: ClassVar[str] = "recognize"
    effect: ClassVar[Effect] = Effect.ROUNDING
    uses_blas: ClassVar[bool] = False

    opset: int | None = option(
        None, "the opset up to which the model may be raised, as far as what is recognized needs it", low=1
    )
    ops: tuple[str, ...] = option(
        (), "the operators to make, instead of those that are not slower in onnxruntime", choices=(*NAMES, ALL)
    )

    def run(self, graph: Graph, ctx: Context) -> None:
        """Look, raise the opset if that is allowed and of use, rewrite."""
        _Recognition(ctx, self._operators(), self.opset).run()

    def _operators(self) -> tuple[Operator, ...]:
        table = operators()
        wanted = [one for one in table if (one.name in self.ops if self.ops else one.by_default)]
        return table if ALL in self.ops else tuple(wanted)


class _Recognition:
    def __init__(self, ctx: Context, operators: tuple[Operator, ...], opset: int | None) -> None:
        self.ctx = ctx
        self.operators = operators
        self.opset = opset
        self.probed: dict[tuple[str, int, int], str] = {}
        self.spoken: dict[Node, None] = {}
        """Where operators would fit, or a guard had something to say, in the order of the nodes."""

    def run(self) -> None:
        now = self.ctx.model.opset.get("", 0)
        limit = now if self.ctx.is_narrowed else max(now, self.opset or now)
        if self.ctx.is_narrowed and self.opset is not None:
            self.ctx.remarks.missed("model", "the opset is that of the whole model, and only a part may be touched")
        places = self.look(limit)
        for target in sorted(self.wanted(places, now, limit), reverse=True):
            if self.rewritten_at(target):
                break
        else:
            made = self.rewrite(self.spoken) if self.spoken else Counter[str]()
            if not made and not places:
                self.ctx.remarks.missed("model", "nothing is spelled out that is an operator of its own")
        self.explain(places, max(limit, self.ctx.model.opset.get("", 0)))

    def look(self, limit: int) -> dict[Node, list[Operator]]:
        """Where operators would fit if the opset were high enough, in the order of the table; whether the executor runs
        them is asked of those that may be made."""
        places: dict[Node, list[Operator]] = {}

        def looking(operator: Operator, guard: Guard) -> Guard:
            def look(match: Match) -> str:
                opset = max(operator.since, match.opset)
                reason = guard(match) or ("" if opset > limit else self.why_not(operator, match, opset))
                if not reason.startswith(QUIET):
                    self.spoken[match.root] = None
                if not reason:
                    found = places.setdefault(match.root, [])
                    if operator not in found:
                        found.append(operator)
                return QUIET

            return look

        rules = [rule._replace(since=1, guard=looking(one, rule.guard)) for one in self.operators for rule in one.rules]
        apply_rules(self.ctx, rules)
        return places

    def wanted(self, places: dict[Node, list[Operator]], now: int, limit: int) -> set[int]:
        """The opsets above the present one that bring an operator which would be made."""
        best = (next((one for one in found if one.since <= limit), None) for found in places.values())
        return {one.since for one in best if one is not None and one.since > now}

    def rewritten_at(self, target: int) -> bool:
        """Raise the opset and rewrite; take it back if nothing comes of it that needs this opset."""
        before = self.ctx.checkpoint()
        problem = raise_opset(self.ctx, target)
        if problem is None:
            self.ctx.remarks.applied("model", f"opset raised to {target}", rule="opset")
            made = self.rewrite()
            if any(made[rule.name] for one in self.operators if one.since == target for rule in one.rules):
                return True
        self.ctx.rollback(before)
        self.ctx.remarks.missed("model", f"opset not raised to {target}: {problem or 'nothing came of it'}")
        return False

    def rewrite(self, at: Iterable[Node] | None = None) -> Counter[str]:
        """Apply the rules of the operators that exist in the opset, and that the executor runs; first at some nodes, if
        those are known."""
        return apply_rules(self.ctx, [self.checked(one, rule) for one in self.operators for rule in one.rules], at)

    def checked(self, operator: Operator, rule: Rule) -> Rule:
        def guard(match: Match) -> str:
            return rule.guard(match) or self.why_not(operator, match, match.opset)

        return rule._replace(since=max(rule.since, operator.since), guard=guard)

    def why_not(self, operator: Operator, match: Match, opset: int) -> str:
        """Why the operator cannot be made of this type; empty if it can."""
        x = match.get("x") or match.get("q")
        if x is None:
            return ""
        dtype = match.types.dtype(x)
        if dtype is None:
            return f"the type of {x.name!r} is not known"
        if operator.since <= LOWEST and dtype == TensorProto.FLOAT:
            return ""  # whatever runs models runs it
        key = (operator.name, dtype, opset)
        if key not in self.probed and self.ctx.backend is not None:
            dtypes, version = [dtype] * operator.inputs, max(self.ctx.model.ir_version, 8)
            self.probed[key] = why_not_run(self.ctx.backend, operator.name, dtypes, operator.attributes, opset, version)
        return self.probed.get(key, "")

    def explain(self, places: dict[Node, list[Operator]], limit: int) -> None:
        """Say what a higher opset would bring."""
        beyond = Counter(found[0] for node, found in places.items() if node.graph is not None and _lacks(found, limit))
        for operator, count in beyond.items():
            self.ctx.remarks.missed(
                "model",
                f"{operator.name} is spelled out {count} times; it is an operator since opset {operator.since}",
                rule=operator.name,
                suggestion=f"recognize{{opset={operator.since}}}",
            )


def _lacks(found: Iterable[Operator], limit: int) -> bool:
    return all(operator.since > limit for operator in found)
