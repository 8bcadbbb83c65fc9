"""Flattening: what a model executes on a feed, as a straight line of nodes.

An If gives way to the nodes of the branch that the feed takes, a Loop or a Scan to its turns, in rounds from the
outside to the inside: each round runs the model once for the conditions and the numbers of turns. Of more than `TURNS`
turns the first ones stand beside the node, which stays. What cannot be decided stays as it is: a node that never runs
its body, or whose opset has no sequences, and calls of functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir import Backend, Model, Node, Session, Value
from ...ir.straighten import Decision, Straight, can_straighten, counting, straighten

TURNS = 8
"""Turns of a Loop or a Scan that are looked into, one by one."""
_ROUNDS = 16
"""How deep bodies are looked into."""

Way = tuple[tuple[tuple[int, int, bool], ...], ...]
"""The decisions of all rounds: of each node its number in the graph, the number of the body, or of the turns, and
whether the node stays."""


@dataclass
class _Stage:
    straight: Straight
    decided: frozenset[str] = frozenset()
    """First outputs of nodes that stay though they were decided."""
    question: tuple[Session | None, dict[Node, Value]] | None = None
    """What is run to decide, if anything is, and the value that is the answer for each node."""


class Flattener:
    """Flattens one model; feeds that take the same way share what comes out."""

    def __init__(self, model: Model, backend: Backend) -> None:
        self._backend = backend
        self._stages: dict[Way, _Stage] = {(): _Stage(Straight(model))}

    def flatten(self, feed: Mapping[str, Any]) -> tuple[Way, Straight]:
        """What the model executes on `feed`, and the way there, which is equal for feeds that execute the same.

        ExecutionError if the model does not run.
        """
        way: Way = ()
        for _ in range(_ROUNDS):
            stage = self._stages[way]
            decisions = self._decide(stage, feed)
            if not decisions:
                break
            way = (*way, _step(stage.straight.model, decisions))
            if way not in self._stages:
                stay = {_key(node) for node, decision in decisions.items() if decision.whole}
                self._stages[way] = _Stage(straighten(stage.straight, decisions), stage.decided | stay)
        return way, self._stages[way].straight

    def _decide(self, stage: _Stage, feed: Mapping[str, Any]) -> dict[Node, Decision]:
        model = stage.straight.model
        version = model.opset.get("", 0)
        nodes = [
            node
            for node in model.graph.nodes
            if node.bodies and _key(node) not in stage.decided and can_straighten(node, version)
        ]
        if not nodes:
            return {}
        if stage.question is None:
            counted, wanted = counting(model, nodes)
            names = dict.fromkeys(value.name for value in wanted.values() if value.const is None)
            stage.question = self._backend.prepare(counted, outputs=list(names)) if names else None, wanted
        session, wanted = stage.question
        answers: Mapping[str, Any] = {}
        if session is not None:
            ports = {port.name for port in session.inputs}
            answers = session.run({name: value for name, value in feed.items() if name in ports})
        found: dict[Node, Decision] = {}
        for node in nodes:
            asked = wanted[node]
            answer = answers[asked.name] if asked.const is None else asked.const.numpy()
            decision = _decision(node, answer)
            if decision is not None:
                found[node] = decision
        return found


def _decision(node: Node, answer: Any) -> Decision | None:
    """What a node does: the answer is the condition of an If, the numbers of the turns of a Loop, or the first
    sequence of a Scan. None where no body is run."""
    if node.is_op("If"):
        taken = "then_branch" if bool(np.asarray(answer).reshape(())) else "else_branch"
        return Decision(node.attributes[taken].graphs[0])
    axis = (node.attr("scan_input_axes") or [0])[0] if node.is_op("Scan") else 0
    turns = int(np.shape(answer)[axis])
    return Decision(node.bodies[0], min(turns, TURNS), turns > TURNS) if turns else None


def _step(model: Model, decisions: Mapping[Node, Decision]) -> tuple[tuple[int, int, bool], ...]:
    return tuple(
        (place, node.bodies.index(decision.body) if node.is_op("If") else decision.turns, decision.whole)
        for place, node in enumerate(model.graph.nodes)
        if (decision := decisions.get(node)) is not None
    )


def _key(node: Node) -> str:
    return next((value.name for value in node.outputs if value.name), "")
