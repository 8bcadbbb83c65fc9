"""Inline model-local functions: each call is replaced by what the function is made of.

The same operators compute the same values in the same order, so the pass is EXACT. A constant of a function becomes one
initializer of the main graph, however often the function is called: no weight is stored twice. Functions that nothing
calls any more go. A call stays, with a reason, where the nodes of the function would not mean the same outside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from onnx import AttributeProto, defs

from ...errors import did_you_mean
from ...ir import Graph, Model, Node, Tensor, Value
from ...ir.attribute import Attribute
from ...ir.graph import Function
from ...ir.tensor import ProtoTensor
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.sweep import call_key
from .same_operator import means_the_same

_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
LARGE = 256
"""Bytes from which on a constant is not copied from one function into another."""
LOWEST = 7
"""Below this opset operators broadcast in another way, which signatures do not tell."""


@dataclass(frozen=True)
class Inline(Pass):
    """Replace calls of model-local functions by their bodies."""

    name: ClassVar[str] = "inline"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False

    functions: tuple[str, ...] = option(("*",), "globs of the functions to inline, as NAME or DOMAIN.NAME")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Inline calls, outer ones first, until none is left that can be."""
        known = [name for function in ctx.model.functions.values() for name in (function.name, function.label)]
        for pattern in self.functions if known else ():
            if not any(fnmatchcase(name, pattern) for name in known):
                ctx.remarks.missed(pattern, f"no function is called so{did_you_mean(pattern, known)}", rule="pattern")
        work = _Inlining(ctx, self.functions)
        count = sum(work.inline_calls(root) for root in list(ctx.model.roots()))
        for node, reason in work.left.items():
            ctx.remarks.missed(node.label, f"calls {node.op_type}, not inlined: {reason}", rule="inline")
        if count:
            ctx.remarks.applied("model", f"{count} calls inlined", rule="inline")
        elif not work.left:
            ctx.remarks.missed("model", "it calls no function that is meant")


class _Inlining:
    """The calls of one model as they are inlined."""

    def __init__(self, ctx: Context, patterns: tuple[str, ...]) -> None:
        self.ctx = ctx
        self.patterns = patterns
        self.left: dict[Node, str] = {}
        self._constants: dict[tuple[Tensor, Graph], Value] = {}
        self._defaults: dict[Function, Mapping[str, Attribute]] = {}

    def inline_calls(self, root: Graph) -> int:
        """Inline the calls in a graph and its bodies; new nodes are visited too."""
        if not self._is_needed(root):
            return 0
        count = 0
        todo = [root]
        while todo:
            graph = todo.pop()
            again = True
            while again:
                again = False
                for node in graph.nodes:
                    function = self._called(node)
                    if function is not None and self._inline(node, function):
                        count += 1
                        again = True
            todo += [body for node in graph.nodes for body in node.bodies]
        return count

    def _is_needed(self, root: Graph) -> bool:
        """Whether a root is the main graph, or a function that is still called."""
        if not isinstance(root.owner, Function):
            return True
        key = root.owner.key
        return any(call_key(node) == key for graph in self.ctx.model.walk_graphs() for node in graph.nodes)

    def _called(self, node: Node) -> Function | None:
        function = self.ctx.model.functions.get(call_key(node))
        if function is None or node in self.left or not self.ctx.selects(node):
            return None
        names = (function.name, function.label)
        meant = any(fnmatchcase(name, pattern) for name in names for pattern in self.patterns)
        return function if meant else None

    def _inline(self, call: Node, function: Function) -> bool:
        reason = _obstacle(call, function, self.ctx.model, self._defaults_of(function))
        if reason:
            self.left[call] = reason
            return False
        with self.ctx.rewriter.apply("inline", call):
            self._replace(call, function)
        return True

    def _replace(self, call: Node, function: Function) -> None:
        rewriter, body = self.ctx.rewriter, function.body
        place = call.graph
        assert place is not None  # a call in the list of a graph
        self._import_opsets(place, function)
        copies: dict[Value, Value] = {}
        omitted: set[Value] = set()
        for slot, value in enumerate(body.inputs):
            given = call.input(slot)
            if given is None:
                omitted.add(value)
            else:
                copies[value] = given
        for node in body.nodes:
            self._copy(node, copies, omitted, call, function)
        for old, result in zip(call.outputs, body.outputs, strict=False):
            if old.name:
                new = copies[result]
                fresh = new.producer is not None and new not in call.inputs and new.graph is place and not new.uses
                (rewriter.take_over if fresh else rewriter.replace)(old, new)
        rewriter.erase(call)

    def _copy(
        self, node: Node, copies: dict[Value, Value], omitted: set[Value], call: Node, function: Function
    ) -> None:
        rewriter = self.ctx.rewriter
        if node.constant is not None and not self._stays_node(call):
            copies[node.outputs[0]] = self._constant(node.constant, node.outputs[0], call)
            return
        if any(value in omitted for value in node.inputs):
            inputs = [None if value is None or value in omitted else copies[value] for value in node.inputs]
            while inputs and inputs[-1] is None:
                inputs.pop()
            hints = [value.name for value in node.outputs]
            made = rewriter.insert(
                node.op_type, inputs, node.attributes, before=call, outputs=hints, domain=node.domain, origin=[node]
            )
            copies.update(zip(node.outputs, made.outputs, strict=True))
        else:
            made = rewriter.insert_copy(node, copies, before=call)
        for inner in (made, *(inner for graph in made.walk_bodies() for inner in graph.nodes)):
            self._bind(inner, call, function)
        for graph in list(made.walk_bodies()):
            self._lift(graph, call)
        if made.constant is not None and not self._stays_node(call):  # it read an attribute
            copies[node.outputs[0]] = self._constant(made.constant, node.outputs[0], call)
            rewriter.erase(made)

    def _bind(self, node: Node, call: Node, function: Function) -> None:
        """Give the attributes of a node that read one of the function what the call, or the default, says."""
        for name, attribute in list(node.attributes.items()):
            if attribute.ref:
                given = call.attributes.get(attribute.ref, self._defaults_of(function).get(attribute.ref))
                self.ctx.rewriter.set_attribute(node, name, None if given is None else _renamed(given, name))

    def _defaults_of(self, function: Function) -> Mapping[str, Attribute]:
        if function not in self._defaults:
            self._defaults[function] = {proto.name: _default(proto) for proto in function.source.attribute_proto}
        return self._defaults[function]

    def _lift(self, graph: Graph, call: Node) -> None:
        """Let the constants of a body be those of the main graph too, so that no call stores them again."""
        for node in graph.nodes:
            value = node.outputs[0] if node.constant is not None else None
            if value is None or node.constant is None or value.needs_constant_node or value.is_dead:
                continue
            self.ctx.rewriter.replace(value, self._constant(node.constant, value, call))
            self.ctx.rewriter.erase(node)

    def _stays_node(self, call: Node) -> bool:
        return call.graph is None or call.graph.is_function

    def _constant(self, stored: Tensor, like: Value, call: Node) -> Value:
        assert call.graph is not None
        root = call.graph.root
        if root.is_function:
            return self.ctx.rewriter.constant(root, stored, like.name)
        if (stored, root) not in self._constants:
            self._constants[stored, root] = self.ctx.rewriter.constant(root, stored, like.name)
        return self._constants[stored, root]

    def _import_opsets(self, place: Graph, function: Function) -> None:
        owner = place.root.owner
        assert owner is not None
        for domain, version in function.opset.items():
            if domain not in owner.opset and any(node.domain == domain for node in _all_nodes(function)):
                self.ctx.rewriter.set_opset(owner, domain, version)


def _weight(node: Node) -> int:
    return 0 if node.constant is None else node.constant.nbytes


def _all_nodes(function: Function) -> list[Node]:
    return [node for graph in function.body.walk_graphs() for node in graph.nodes]


def _default(proto: AttributeProto) -> Attribute:
    return Attribute(proto, ProtoTensor(proto.t) if proto.type == AttributeProto.TENSOR else None)


def _renamed(attribute: Attribute, name: str) -> Attribute:
    proto = type(attribute.proto)()
    proto.CopyFrom(attribute.proto)
    proto.name = name
    return Attribute(proto, attribute.tensor, attribute.graphs)


def _obstacle(call: Node, function: Function, model: Model, defaults: Mapping[str, Attribute]) -> str:
    """Why a call cannot be inlined; empty if it can."""
    if _reaches(function, function, model):
        return "the function calls itself"
    place = call.graph
    if place is None or len(call.inputs) > len(function.body.inputs) or len(call.outputs) > len(function.body.outputs):
        return "it gives more inputs or takes more outputs than the function has"
    if place.is_function and (weight := max((_weight(node) for node in _all_nodes(function)), default=0)) >= LARGE:
        return f"its weight of {weight} bytes would be stored twice: a function that calls it has no initializers"
    omitted = {value for slot, value in enumerate(function.body.inputs) if call.input(slot) is None}
    if any(value in omitted for value in function.body.outputs):
        return "an output is an input that the call omits"
    for node in _all_nodes(function):
        reason = _changes_meaning(node, function.opset, place.opset, model)
        if reason:
            return reason
        reads_omitted = any(value in omitted for value in node.inputs)
        if reads_omitted and (node.graph is not function.body or node.bodies or node.overload):
            return f"{node.label} reads an omitted input inside a body"
        for attribute in node.attributes.values():
            given = call.attributes.get(attribute.ref, defaults.get(attribute.ref)) if attribute.ref else None
            if given is not None and (given.proto.type in _GRAPHS or given.proto.type != attribute.proto.type):
                return f"attribute {attribute.ref!r} is a graph, or of another type than {node.label} reads"
    return ""


def _changes_meaning(node: Node, inside: Mapping[str, int], outside: Mapping[str, int], model: Model) -> str:
    """Why a node of a function would mean something else outside; empty if it would not."""
    old, new = inside.get(node.domain), outside.get(node.domain)
    if old == new or new is None or call_key(node) in model.functions:
        return ""
    same = not node.domain and old is not None and _same_operator(node, old, new)
    return "" if same else f"{node.op_type} of opset {old} may mean something else in opset {new}"


def _same_operator(node: Node, old: int, new: int) -> bool:
    """Attributes of the function are seen as the call gives them only later, so a node that reads one counts only
    where the operator did not change at all."""
    if not defs.has(node.op_type, old) or not defs.has(node.op_type, new):
        return False
    if defs.get_schema(node.op_type, old).since_version == defs.get_schema(node.op_type, new).since_version:
        return True
    reads = any(attribute.ref for attribute in node.attributes.values())
    return not reads and LOWEST <= old < new and means_the_same(node, old, new)


def _reaches(start: Function, goal: Function, model: Model) -> bool:
    """Whether a function calls `goal`, directly or through others."""
    seen: set[Function] = set()
    todo = [start]
    while todo:
        for node in _all_nodes(todo.pop()):
            called = model.functions.get(call_key(node))
            if called is goal:
                return True
            if called is not None and called not in seen:
                seen.add(called)
                todo.append(called)
    return False
