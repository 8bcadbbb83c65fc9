"""What rules ask of a match: constants as numbers, axes counted from the front, when a value may stand for another.

Half precision is left alone. onnxruntime computes most of it in float, and whether it rounds between two operators
depends on which operators stand between them, so that taking one out may change bits. Where a type is unknown (in
functions it is) it may be half precision. What stands between conversions from and to half precision stays too: side by
side onnxruntime drops them, and a rounding with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeGuard

from onnx import TensorProto

from ....ir import Graph, Node, Value
from ....ir.proto import constant_size, initializer_size, node_size
from ...rewriting.constants import array_of
from ...rewriting.driver import QUIET, can_stand_for
from ...rewriting.pattern import Call
from ...rewriting.rule import Build, Builder, Guard, Match, Results, Rule
from ..evaluate import HALF

NO = f"{QUIET} it does something"
Stand = Callable[[Match], Value]


def the_x(match: Match) -> Value:
    """What fills the hole `x`."""
    return match["x"]


def removal(name: str, pattern: Call, guard: Guard, *, since: int = 1, until: int = 1000, stand: Stand = the_x) -> Rule:
    """A rule by which readers of the match read an existing value; other readers of inner nodes do not matter."""

    def holds(match: Match) -> str:
        new = stand(match)
        old = match.root.outputs[0]
        return (
            is_given(match.bound.matched)
            or guard(match)
            or maybe_half(match.bound.matched, match)
            or _misfit(old, new)
            or _joins_casts(old, new, match)
        )

    def build(match: Match, b: Builder) -> Results:
        return stand(match)

    return Rule(name, pattern, build, holds, since=since, until=until, exclusive=False)


def merger(name: str, pattern: Call, guard: Guard, build: Build, *, since: int = 1, until: int = 1000) -> Rule:
    """A rule that makes one node of a match whose inner nodes nothing else reads."""

    def holds(match: Match) -> str:
        nodes = match.bound.matched
        return is_given(nodes) or guard(match) or maybe_half(nodes, match)

    return Rule(name, pattern, build, holds, since=since, until=until)


def is_given(nodes: Sequence[Node]) -> str:
    """Why nodes must be left alone of which the call of a function gives an attribute; empty if it gives none."""
    for node in nodes:
        for attribute in node.attributes.values():
            if attribute.ref:
                return f"{QUIET} an attribute is given by the call of a function"
    return ""


def maybe_half(nodes: Sequence[Node], match: Match) -> str:
    """Why nodes must be left alone that may compute in half precision; empty if none does."""
    for node in nodes:
        source = node.input(0)
        if source is None or is_half(source, match) or is_half(node.outputs[0], match):
            return f"{QUIET} it may be half precision"
    return ""


def is_half(value: Value, match: Match) -> bool:
    """Whether a value may be of half precision."""
    return match.types.dtype(value) in (None, *HALF)


def _joins_casts(old: Value, new: Value, match: Match) -> str:
    """Why `new` cannot stand for `old`: a conversion from half precision would come to stand beside one to it."""
    if not was_half(new, match):
        return ""
    readers = (use.user for use in old.uses if isinstance(use.user, Node) and _is_cast(use.user))
    if any(is_half(reader.outputs[0], match) for reader in readers):
        return f"{QUIET} it stands between conversions from and to half precision"
    return ""


def was_half(value: Value, match: Match) -> bool:
    """Whether a value is converted from what may be half precision."""
    node = value.producer
    return _is_cast(node) and any(read is not None and is_half(read, match) for read in node.inputs)


def _is_cast(node: Node | None) -> TypeGuard[Node]:
    return node is not None and node.is_op("Cast", "CastLike")


def _misfit(old: Value, new: Value) -> str:
    """Why `new` cannot stand for `old`: rules of outputs, or its new name would take more bytes than go."""
    if reason := can_stand_for(old, new):
        return reason
    if old.producer is not None and any(isinstance(use.user, Graph) for use in old.uses):
        longer = len(old.name.encode()) - len(new.name.encode())
        if longer * (len(new.uses) + 1) > node_size(old.producer):
            return f"{QUIET} the name of the output is long, and would be written often"
    return ""


# ---- constants


def ints(value: Value | None) -> tuple[int, ...] | None:
    """The elements of a small constant of integers; None if it is none."""
    tensor = None if value is None else value.const
    array = None if tensor is None else array_of(tensor)
    return None if array is None or array.dtype.kind not in "iu" else tuple(int(n) for n in array.reshape(-1))


def parameter(node: Node, name: str, slot: int) -> tuple[int, ...] | None:
    """Integers that are an attribute in old opsets and an input in later ones; None if not given or not constant."""
    given = node.attr(name)
    return ints(node.input(slot)) if given is None else tuple(given)


def counted(axes: Sequence[int] | None, rank: int | None) -> tuple[int, ...] | None:
    """Different axes, counted from the front and in order; None if that takes a rank that is unknown."""
    if axes is None or (rank is None and any(axis < 0 for axis in axes)):
        return None
    found = tuple(sorted(axis if rank is None or axis >= 0 else axis + rank for axis in axes))
    return found if len(set(found)) == len(found) and all(axis >= 0 for axis in found) else None


# ---- sizes


def growth(match: Match, made: Iterable[Sequence[int]], dropped: Iterable[Value | None]) -> int:
    """Bytes that the file gains if the root stays, inner nodes go, and int64 constants of `made` replace `dropped`."""
    graph, nodes = match.graph, match.bound.matched
    added = sum(
        constant_size(TensorProto.INT64, (len(content),), "c_" + "0" * 6, graph, as_node=graph.is_function)
        for content in made
    )
    added += _longer_names(match)
    return added - sum(map(node_size, match.inner)) - released(dropped, nodes)


def _longer_names(match: Match) -> int:
    """How much longer the names are that the root will read."""
    inner = match.inner[0].outputs[0] if match.inner else None
    return 0 if inner is None else max(0, len(match["x"].name) - len(inner.name)) + 8


def released(values: Iterable[Value | None], nodes: Sequence[Node]) -> int:
    """Bytes of the constants among `values` that only `nodes` read."""
    total = 0
    for value in dict.fromkeys(values):
        if value is None or value.const is None or not value.is_read_only_by(nodes):
            continue
        total += initializer_size(value.const, value.name) if value.producer is None else node_size(value.producer)
    return total
