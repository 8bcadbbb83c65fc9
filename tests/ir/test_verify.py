"""The verifier accepts what lowering and the Rewriter make, and names every invariant that is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from onnx import ModelProto, ValueInfoProto

from onnxpress.errors import VerifyError
from onnxpress.ir import Model, Node, Use, Value, lower, tensor, verify
from onnxpress.specs import model_of, models

TEXT = """
    g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
        a = Neg(x)
        b = Add(a, w)
        r = If(c) <then_branch = t () => (float[2] p) { p = Mul(a, w) },
                   else_branch = e () => (float[2] q) { q = local.f(b) }>
        y = Abs(r)
    }
    <domain: "local", opset_import: ["" : 17]> f (u) => (v) { v = Neg(u) }"""


def made() -> Model:
    return lower(model_of(TEXT))


def values(model: Model) -> dict[str, Value]:
    return {value.name: value for graph in model.walk_graphs() for value in graph.values()}


def node(model: Model, output: str) -> Node:
    found = values(model)[output].producer
    assert found is not None
    return found


@given(models(impure=True))
def test_every_model_that_is_read_is_sound(proto: ModelProto) -> None:
    verify(lower(proto))


# ---- one fault each


def reads_later(model: Model) -> None:
    first, later = node(model, "a"), values(model)["b"]
    old = values(model)["x"]
    first._inputs[0] = later
    del old._uses[Use(first, 0)]
    later._uses[Use(first, 0)] = 99


def reads_a_value_of_another_model(model: Model) -> None:
    stranger, reader = values(made())["a"], node(model, "b")
    del values(model)["a"]._uses[Use(reader, 0)]
    reader._inputs[0] = stranger


def reads_from_inside_a_body(model: Model) -> None:
    inner, reader = values(model)["p"], node(model, "y")
    del values(model)["r"]._uses[Use(reader, 0)]
    reader._inputs[0] = inner
    inner._uses[Use(reader, 0)] = 99


def reads_from_a_function(model: Model) -> None:
    reader = node(model, "y")
    reader._inputs.append(values(model)["u"])


def forgets_a_use(model: Model) -> None:
    values(model)["w"]._uses.popitem()


def invents_a_use(model: Model) -> None:
    values(model)["w"]._uses[Use(node(model, "y"), 3)] = 99


def forgets_the_use_of_an_output(model: Model) -> None:
    values(model)["y"]._uses.clear()


def defines_twice(model: Model) -> None:
    values(model)["b"]._name = "w"


def hides_a_captured_value(model: Model) -> None:
    body = node(model, "r").bodies[0]
    body.add_initializer("a", tensor([1.0]))


def stores_in_a_function(model: Model) -> None:
    body = next(iter(model.functions.values())).body
    body.add_initializer("stored", tensor([1.0]))


def forgets_an_import(model: Model) -> None:
    del model._opset["local"]


def forgets_the_producer(model: Model) -> None:
    values(model)["a"]._producer = None


def forgets_the_graph(model: Model) -> None:
    values(model)["a"]._graph = None


def forgets_that_it_is_an_input(model: Model) -> None:
    values(model)["x"]._is_input = False


def claims_to_be_an_input(model: Model) -> None:
    values(model)["w"]._is_input = True


def miscounts(model: Model) -> None:
    model.graph._count += 1


def declares_an_output_too_many(model: Model) -> None:
    model.graph._output_infos.append(ValueInfoProto(name="z"))


def disowns_a_body(model: Model) -> None:
    node(model, "r").bodies[0].parent = node(model, "a")


FAULTS: dict[Callable[[Model], None], str] = {
    reads_later: "main: 'b' is not defined before it is read (by Neg:a, slot 0)",
    reads_a_value_of_another_model: "main: 'a' is hidden by another value of that name (by Add:b, slot 0)",
    reads_from_inside_a_body: "main: 'p' is not defined before it is read (by Abs:y, slot 0)",
    reads_from_a_function: "main: 'u' is not defined before it is read (by Abs:y, slot 1)",
    forgets_a_use: "main: the recorded uses of 'w' are not the real ones",
    invents_a_use: "main: the recorded uses of 'w' are not the real ones",
    forgets_the_use_of_an_output: "main: the recorded uses of 'y' are not the real ones",
    defines_twice: "main: 'w' is defined twice",
    hides_a_captured_value: "main/If:r.then_branch: 'a' is hidden by another value of that name (by Mul:p, slot 0)",
    stores_in_a_function: "function local.f: a function cannot have the initializer 'stored'",
    forgets_an_import: "main/If:r.else_branch: node 'f:q' is of domain 'local', which is not imported",
    forgets_the_producer: "main: 'a' does not know its producer 'Neg:a'",
    forgets_the_graph: "main: 'a' does not know its graph",
    forgets_that_it_is_an_input: "main: 'x' does not know that it is an input",
    claims_to_be_an_input: "main: 'w' takes itself for an input",
    miscounts: "main: 4 nodes are linked, 5 counted",
    declares_an_output_too_many: "main: 1 outputs, 2 declared",
    disowns_a_body: "main: a body of 'If:r' does not know its node",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_and_named(fault: Callable[[Model], None]) -> None:
    model = made()
    verify(model)
    fault(model)
    with pytest.raises(VerifyError) as caught:
        verify(model)
    assert str(caught.value) == FAULTS[fault]
