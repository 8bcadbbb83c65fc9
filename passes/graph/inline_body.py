"""Put a body in the place of the node that holds it: its nodes move into the graph around, its constants too.

Nothing is computed in another way and no weight is stored twice: copies share tensors, and the node goes with all its
bodies. Names of values and nodes stay what they were; outputs of the node keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from ...errors import RewriteError
from ...ir import Graph, Node, Rewriter, Value
from ...ir.analysis.facts import branches_of
from ...ir.analysis.purity import Purity
from .evaluate import HALF


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
    across = [*(value for value in node.outputs if value.name), *captured_by(branches[taken])]
    kinds = {dtype(value) for value in across if value.const is None}
    if kinds & set(HALF):
        return "half precision is rounded where the branch ends, and might not be without it"
    if None in kinds and node.graph is not None and node.graph.is_function:
        return "types in functions are unknown (inline them first), and half precision is rounded where the branch ends"
    inline_body(node, branches[taken], {}, rewriter)
    return None


def captured_by(body: Graph) -> list[Value]:
    """The values around a body that it reads, each once."""
    inside = dict.fromkeys(body.walk_graphs())
    reads: dict[Value, None] = {}
    for graph in inside:
        for node in graph.nodes:
            reads |= dict.fromkeys(value for value in node.inputs if value is not None)
        reads |= dict.fromkeys(graph.outputs)
    return [value for value in reads if value.graph not in inside]


def inline_body(node: Node, body: Graph, inputs: dict[Value, Value], rewriter: Rewriter) -> None:
    """Replace a node by what its `body` computes; `inputs` says what stands for the inputs of the body."""
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
    for old, result in zip(node.outputs, body.outputs, strict=True):
        if old.name and not _hand_over(old, copies.get(result, result), rewriter):
            taken.add(result)
    rewriter.erase(node)
    _restore_names(copies, taken, rewriter)


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
    nodes: Sequence[tuple[Node, int]], rewriter: Rewriter, purity: Purity, dtype: Callable[[Value], int | None]
) -> dict[Node, str]:
    """Inline the taken branches of Ifs, inner ones first; returns why some were left."""
    left: dict[Node, str] = {}
    for node, taken in reversed(nodes):
        if node.graph is None:
            continue
        with rewriter.apply("inline-branch", node):
            problem = inline_branch(node, taken, rewriter, purity, dtype)
        if problem is not None:
            left[node] = problem
    return left
