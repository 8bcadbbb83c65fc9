"""What a pass orphans is removed after it: nodes, initializers and functions whose last user it took away.

What was dead before the pass stays until `dce` is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...ir import Edit, Node, Rewriter, Value
from ...ir.analysis.purity import Purity


def call_key(node: Node) -> tuple[str, str, str]:
    """What `Model.functions` knows a function by that the node may call."""
    return (node.domain, node.op_type, node.overload)


def erase_if_dead(node: Node, rewriter: Rewriter, purity: Purity) -> bool:
    """Erase a pure node that nothing depends on; returns whether it did."""
    if node.graph is None or not all(value.is_dead for value in node.outputs) or not purity.is_pure(node):
        return False
    rewriter.erase(node)
    return True


def sweep(rewriter: Rewriter, since: int) -> None:
    """Remove what the edits of the journal from `since` on orphaned."""
    purity = Purity(rewriter.model)
    edits = rewriter.journal[since:]
    todo = _released(edits)
    mark = rewriter.mark()
    while todo:
        for value in todo:
            _remove(value, rewriter, purity)
        edits += rewriter.journal[mark:]
        todo, mark = _released(rewriter.journal[mark:]), rewriter.mark()
    _sweep_functions(rewriter, edits)


def _released(edits: Iterable[Edit]) -> list[Value]:
    return list(dict.fromkeys(value for edit in edits for value in edit.released if value.is_dead))


def _remove(value: Value, rewriter: Rewriter, purity: Purity) -> None:
    if value.graph is None or value.graph.root.owner is None or not value.is_dead:
        return  # it is gone, alone or with the body that it is in
    if value.producer is not None:
        erase_if_dead(value.producer, rewriter, purity)
    elif value.is_initializer and not value.is_input:
        rewriter.remove_initializer(value)


def _sweep_functions(rewriter: Rewriter, edits: Iterable[Edit]) -> None:
    """Remove the functions whose last call was erased, and then those that only they called."""
    model = rewriter.model
    todo = [edit.subject for edit in edits if edit.kind == "erase" and isinstance(edit.subject, Node)]
    while todo:
        gone = dict.fromkeys(key for node in todo for key in _calls(node) if key in model.functions)
        alive = {call_key(node) for graph in model.walk_graphs() for node in graph.nodes} if gone else set()
        todo = []
        for key in gone:
            if key not in alive:
                function = model.functions[key]
                rewriter.remove_function(function)
                todo += function.body.nodes


def _calls(node: Node) -> Iterable[tuple[str, str, str]]:
    yield call_key(node)
    for graph in node.walk_bodies():
        yield from map(call_key, graph.nodes)
