"""Put a body in the place of the node that holds it: its nodes move into the graph around, its constants too.

Nothing is computed in another way and no weight is stored twice: copies share tensors, and the node goes with all its
bodies. Names of values and nodes stay what they were; outputs of the node keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np

from ...errors import RewriteError
from ...ir import Graph, Node, Rewriter, Value, tensor
from ...ir.analysis.facts import Facts, branches_of
from ...ir.analysis.purity import Purity
from ..manager.sweep import erase_if_dead
from .evaluate import HALF
from .region import reads_of


def inline_branch(
    node: Node, taken: int, rewriter: Rewriter, purity: Purity, dtype: Callable[[Value], int | None]
) -> str | None:
    """Replace an If by its branch `taken` (0 then, 1 else); returns why it cannot be, if it cannot.

    `dtype` knows the types of values: in half precision it matters where a body begins and ends, since onnxruntime
    computes it in float and rounds at least there.
    """
    branches = branches_of(node)
    if branches is None:
        return "it lacks a branch"
    other = branches[1 - taken]
    if not all(purity.is_pure(inner) for graph in other.walk_graphs() for inner in graph.nodes):
        return "the branch that is never taken holds random or unknown operators, which no pass removes"
    problem = _rounds_at_its_border(node, dtype)
    if problem is None:
        inline_body(node, branches[taken], {}, rewriter)
    return problem


def inline_loop(
    node: Node, turns: int, rewriter: Rewriter, purity: Purity, dtype: Callable[[Value], int | None]
) -> str | None:
    """Replace a Loop that makes one turn by its body, or one that makes none by its initial values; returns why it
    cannot be, if it cannot."""
    (body,), place = node.bodies, node.graph
    initial = node.inputs[2:]
    results = [value for value in node.outputs[len(initial) :] if not value.is_dead]
    if place is None or results or any(value is None for value in initial):
        return "it stacks what its turns give"
    if not turns and not purity.is_pure(node):
        return "it holds random or unknown operators, which no pass removes"
    problem = _rounds_at_its_border(node, dtype)
    if problem is not None:
        return problem
    inputs = dict(zip(body.inputs[2:], (value for value in initial if value is not None), strict=True))
    if not turns:
        for old, new in zip(node.outputs, inputs.values(), strict=False):
            rewriter.replace(old, new)
        rewriter.erase(node)
        return None
    for value, start in zip(body.inputs, (np.int64(0), np.bool_(True)), strict=False):
        if value.uses:
            inputs[value] = rewriter.constant(place, tensor(start), value.name, before=node)
    copies = inline_body(node, body, inputs, rewriter, results=body.outputs[1 : 1 + len(initial)])
    _erase_unread(copies.get(body.outputs[0]), rewriter, purity)  # whether to go on
    return None


def _erase_unread(value: Value | None, rewriter: Rewriter, purity: Purity) -> None:
    todo = [] if value is None else [value]
    while todo:
        node = todo.pop().producer
        if node is not None and erase_if_dead(node, rewriter, purity):
            todo += [read for read in node.inputs if read is not None]


def turns_of(node: Node, numbers: Callable[[Value | None], list[int] | None]) -> int | None:
    """How many turns a Loop makes if that is none or one for certain; `numbers` knows the elements of values."""
    limit, condition = node.input(0), node.input(1)
    goes = [1] if condition is None else numbers(condition)
    if goes == [0]:
        return 0
    count = None if limit is None else numbers(limit)
    if count is None or len(count) != 1 or count[0] > 1:
        return None
    return 0 if count[0] <= 0 else 1 if goes == [1] else None


def _rounds_at_its_border(node: Node, dtype: Callable[[Value], int | None]) -> str | None:
    across = [*(value for value in node.outputs if value.name), *reads_of(node)]
    kinds = {dtype(value) for value in across if value.const is None}
    if kinds & set(HALF):
        return "half precision is rounded where the body ends, and might not be without it"
    if None in kinds and node.graph is not None and node.graph.is_function:
        return "types in functions are unknown (inline them first), and half precision is rounded where the body ends"
    return None


def inline_body(
    node: Node,
    body: Graph,
    inputs: dict[Value, Value],
    rewriter: Rewriter,
    results: Sequence[Value] | None = None,
) -> dict[Value, Value]:
    """Replace a node by what its `body` computes: `inputs` says what stands for the inputs of the body, `results` which
    of its values the outputs of the node are (default: its outputs). Returns what stands for each of its values."""
    copies = dict(inputs)
    place = node.graph
    if place is None:
        raise RewriteError(f"node {node.label!r} is erased already")
    for value in body.initializers:
        if value.tensor is not None:
            copies[value] = rewriter.constant(place, value.tensor, value.name, before=node)
    for inner in body.nodes:
        rewriter.insert_copy(inner, copies, before=node, keep_names=True)
    taken = set(inputs)
    for old, result in zip(node.outputs, body.outputs if results is None else results, strict=False):
        if old.name and not _hand_over(old, copies.get(result, result), rewriter):
            taken.add(result)
    rewriter.erase(node)
    _restore_names(copies, taken, rewriter)
    return copies


def _hand_over(old: Value, new: Value, rewriter: Rewriter) -> bool:
    """Let readers of an output of the node read the result; whether this kept its own name. An Identity that only led
    out of the body goes."""
    producer = new.producer
    is_output = any(isinstance(use.user, Graph) for use in old.uses)
    if producer is not None and producer.is_op("Identity") and not is_output and not new.uses:
        source = producer.input(0)
        if source is not None:
            rewriter.replace(old, source)
            rewriter.erase(producer)
            return True
    if new.producer is None or new.graph is not old.graph or new.pinned:
        rewriter.replace(old, new)
        return True
    rewriter.take_over(old, new)
    return False


def _restore_names(copies: dict[Value, Value], changed: set[Value], rewriter: Rewriter) -> None:
    """Let copies have the names of their originals, which are gone now, where no sibling body uses them too."""
    for original, copy in copies.items():
        if original not in changed and copy.graph is not None and copy.name != original.name and original.name:
            with suppress(RewriteError):  # the name is taken: the fresh one stays
                rewriter.rename(copy, original.name)


def inline_all(
    facts: Facts, selects: Callable[[Node], bool], known: Mapping[Node, str], rewriter: Rewriter, purity: Purity
) -> dict[Node, str]:
    """Inline, of the nodes that are selected, the Ifs that always take one branch and the Loops of one turn or none,
    inner ones first; returns why some were left. Those `known` to be left are not tried again."""
    left: dict[Node, str] = {}
    loops = [node for graph in facts.model.walk_graphs() for node in graph.nodes if node.is_op("Loop")]
    for node in reversed([*loops, *facts.taken]):
        if node.graph is None or node.graph.root.owner is None or node in known:
            continue
        if not selects(node) or facts.fails(node.graph):
            continue
        branch = facts.taken.get(node)
        turns = turns_of(node, facts.numbers) if branch is None else None
        with rewriter.apply("inline-body", node):
            if branch is not None:
                problem = inline_branch(node, branch, rewriter, purity, facts.dtype)
            elif turns is not None:
                problem = inline_loop(node, turns, rewriter, purity, facts.dtype)
            else:
                continue
        if problem is not None:
            left[node] = problem
    return left
