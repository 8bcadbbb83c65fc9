"""Blocks with bodies (If, Loop, Scan), and functions of the model with the nodes that call them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from hypothesis import strategies as st
from onnx import AttributeProto, FunctionProto, NodeProto, defs, helper

from .strategies_patterns import stored_again
from .strategies_scope import BOOL, FLOAT, FUNCTION_DOMAIN, INT64, Names, Scope, Signature, Var


def branch(scope: Scope) -> None:
    """An If whose two bodies give values of one type."""
    like = scope.pick(lambda v: v.dtype in (scope.real, INT64))
    condition = scope.operand(BOOL, ())
    if like is None or condition is None or scope.depth > 1:
        return
    start = scope.names.count
    then = _body(scope, Names(start))
    then_graph = then.graph([_similar(then, like)], sized=scope.draw(st.booleans()))
    share = scope.draw(st.booleans())  # two bodies side by side may use the same names
    names = Names(start) if share else then.names
    other = _body(scope, names)
    other_graph = other.graph([_similar(other, like)], sized=scope.draw(st.booleans()))
    scope.names.count = max(then.names.count, names.count)
    bodies = {"then_branch": then_graph, "else_branch": other_graph}
    scope.node("If", [condition], [(like.dtype, like.shape)], bodies)


def loop(scope: Scope) -> None:
    """A Loop of a few turns over one state, with what it collects."""
    state = scope.pick(lambda v: v.dtype in (scope.real, INT64))
    if state is None or scope.depth > 1:
        return
    turns = scope.pick(lambda v: v in scope.inputs and (v.dtype, v.shape) == (INT64, ()))
    if turns is None or scope.draw(st.booleans()):
        turns = scope.store(np.int64(scope.draw(st.integers(0, 3))))
    keep_on = scope.operand(BOOL, ()) if scope.draw(st.booleans()) else None
    body = _body(scope, scope.names, run=False)
    body.input(INT64, ())
    again = body.input(BOOL, ())
    carried = body.input(state.dtype, state.shape)
    body.steps(2)
    collected = [body.result(carried)] if scope.draw(st.booleans()) else []
    outputs = [body.result(again), _similar(body, carried), *collected]
    graph = body.graph(outputs)
    types = [(state.dtype, state.shape)]
    types += [(state.dtype, (scope.world.symbol(), *state.shape)) for _ in collected]
    scope.node("Loop", [turns, keep_on, state], types, {"body": graph})


def scan(scope: Scope) -> None:
    """A Scan along the first axis with one state."""
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) > 0 and v.shape[0] != 0)
    state = scope.operand(scope.real, ())
    if x is None or state is None or scope.opset < 9 or scope.depth > 1:
        return
    body = _body(scope, scope.names, run=False)
    carried = body.input(scope.real, ())
    row = body.input(scope.real, x.shape[1:])
    body.steps(2)
    outputs = [_similar(body, carried), _similar(body, row)]
    if outputs[0] == outputs[1]:
        outputs[1] = body.node("Identity", [row], [(scope.real, row.shape)])[0]
    types = [(scope.real, ()), (scope.real, x.shape)]
    scope.node("Scan", [state, x], types, {"body": body.graph(outputs), "num_scan_inputs": 1})


def _body(scope: Scope, names: Names, *, run: bool = True) -> Scope:
    body = Scope(
        scope.world,
        names,
        outer=scope.vars,
        refs=scope.refs,
        depth=scope.depth + 1,
        in_function=scope.in_function,
    )
    if run:
        if scope.world.chance(25):
            stored_again(body)
        body.steps(2)
    return body


def _similar(scope: Scope, like: Var) -> Var:
    """A result of the type of `like`."""
    found = scope.pick(lambda v: (v.dtype, v.shape) == (like.dtype, like.shape))
    return scope.result(found or like)


def call(scope: Scope) -> None:
    """A call of a function of the model, of a new one or of one that is there, if its operands can be had."""
    world = scope.world
    may_define = world.ir_version >= 8 and not scope.in_function and len(world.functions) < 3
    if may_define and (not world.functions or scope.choose((True, False))):
        _define(scope)
        return
    if not world.functions:
        return
    signature = scope.choose(world.functions)
    operands = [scope.operand(var.dtype, var.shape) for var in signature.inputs]
    if all(operand is not None for operand in operands):
        _call(scope, signature, operands)


def _define(scope: Scope) -> None:
    """A new function, and a call of it."""
    world = scope.world
    operands = [scope.choose(scope.vars[::-1]) for _ in range(scope.draw(st.integers(1, 2)))]
    refs = ("alpha",) if scope.draw(st.booleans()) else ()
    body = Scope(world, Names(), refs=refs, in_function=True, depth=1)
    inputs = [body.input(var.dtype, var.shape) for var in operands]
    body.steps(3)
    if scope.draw(st.booleans()) and world.functions:
        call(body)
    outputs = [body.result(body.choose(body.vars[::-1]))]
    proto = _function(body, f"F{len(world.functions)}", inputs, outputs)
    signature = Signature(proto, tuple(inputs), tuple(outputs), refs)
    world.functions.append(signature)
    world.domains.add(FUNCTION_DOMAIN)
    for _ in range(scope.choose((2, 1))):
        _call(scope, signature, operands)


def _call(scope: Scope, signature: Signature, operands: Sequence[Var | None]) -> None:
    attributes: dict[str, object] = {}
    for name in signature.attributes:
        if name in scope.refs and scope.draw(st.booleans()):
            attributes[name] = reference(name, "alpha")
        else:
            attributes[name] = scope.choose((0.5, 0.0, 2.0))
    types = [(var.dtype, var.shape) for var in signature.outputs]
    scope.node(signature.proto.name, operands, types, attributes, domain=FUNCTION_DOMAIN)


def reference(name: str, attribute: str) -> AttributeProto:
    """The attribute `name` of a node, read from `attribute` of the function."""
    return AttributeProto(name=name, ref_attr_name=attribute, type=AttributeProto.FLOAT)


def by_attribute(scope: Scope) -> None:
    """A node that reads an attribute of the function: a constant, yet another one at each call."""
    if not scope.refs:
        return
    if scope.opset >= 12 and scope.draw(st.booleans()):
        scope.node("Constant", [], [(FLOAT, ())], {"value_float": reference("value_float", "alpha")})
        return
    x = scope.pick(lambda v: v.dtype == scope.real) or scope.operand(scope.real, (2,))
    if x is not None:
        scope.node("LeakyRelu", [x], [(scope.real, x.shape)], {"alpha": reference("alpha", "alpha")})


def _function(body: Scope, name: str, inputs: Sequence[Var], outputs: Sequence[Var]) -> FunctionProto:
    imports = [helper.make_opsetid("", body.draw(st.sampled_from(_versions(body))))]
    imports += [helper.make_opsetid(domain, 1) for domain in sorted(_domains(body))]
    return helper.make_function(
        FUNCTION_DOMAIN,
        name,
        [var.name for var in inputs],
        [var.name for var in outputs],
        body.nodes,
        imports,
        list(body.refs),
    )


def _domains(body: Scope) -> set[str]:
    return {node.domain for node in _walk(body.nodes) if node.domain}


def _walk(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _walk(attribute.g.node)


def _versions(body: Scope) -> list[int]:
    """Opsets in which the operators of the body are the same as in the model's: a function may import another one."""
    here = body.opset
    ops = {node.op_type for node in _walk(body.nodes) if not node.domain}

    def same(version: int) -> bool:
        return all(_since(op, version) == _since(op, here) for op in ops)

    return [here] + [v for v in range(max(here - 3, 1), min(here + 4, 25)) if v != here and same(v)]


def _since(op_type: str, version: int) -> int:
    return int(defs.get_schema(op_type, version, "").since_version) if defs.has(op_type, version, "") else 0
