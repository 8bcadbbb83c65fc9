"""debug: errors are laid where they are born, in bodies too, and under whatever names."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.backends.metrics import measure
from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Graph, Model, Node, Rewriter, Value, clone_model, emit, lower, tensor, verify
from onnxpress.ir.straighten import Straight
from onnxpress.passes.debug.births import Births, births
from onnxpress.passes.debug.correspond import correspond
from onnxpress.passes.debug.flatten import TURNS, Flattener
from onnxpress.passes.manager.context import Silent
from onnxpress.specs import feeds, model_of, models
from onnxpress.specs.bits import same_bits

BACKEND = OrtBackend()


def compared(first: Model, second: Model, *given_: Any, top: int = 3) -> Births:
    return births(first, second, given_, BACKEND, measure, Silent(), top=top)


def flat(model: Model, feed: Any) -> Straight:
    _, straight = Flattener(model, BACKEND).flatten(feed)
    verify(straight.model)
    return straight


def runs(model: Model, feed: Any) -> dict[str, Any] | None:
    try:
        return BACKEND.prepare(model).run(feed)
    except ExecutionError:
        return None


@given(st.data())
def test_a_flat_model_computes_the_same_bits(data: st.DataObject) -> None:
    model = lower(data.draw(models()))
    feed = data.draw(feeds(emit(model)))
    wanted = runs(model, feed)
    if wanted is None:
        return  # the model itself refuses the feed
    before = emit(model).SerializeToString(deterministic=True)
    found = BACKEND.prepare(flat(model, feed).model).run(feed)
    assert emit(model).SerializeToString(deterministic=True) == before
    assert list(found) == list(wanted)
    assert all(same_bits(found[name], value) for name, value in wanted.items())


@given(st.data())
def test_in_equal_models_nothing_is_born(data: st.DataObject) -> None:
    model = lower(data.draw(models()))
    feed = data.draw(feeds(emit(model)))
    if runs(model, feed) is None:
        return
    found = compared(model, clone_model(model), feed)
    assert (found.places, found.refuted, found.renamed) == ([], (), 0)


@given(st.data())
def test_names_are_not_needed(data: st.DataObject) -> None:
    """Every value of the second model has another name: structure alone pairs what has no bodies left."""
    model = lower(data.draw(models()))
    feed = data.draw(feeds(emit(model)))
    if runs(model, feed) is None:
        return
    other = clone_model(model)
    rewriter = Rewriter(other)
    for value in list(other.graph.values()):
        if not value.is_input and value not in other.graph.outputs:
            rewriter.rename(value, f"other_{value.name}")
    assert compared(model, other, feed).places == []


def perturb(model: Model, value: Value, by: float) -> Node:
    """Let everyone read `by` times a value; the node that the factor is behind, in a copy of its own name."""
    node = value.producer
    assert node is not None
    rewriter, after = Rewriter(model), next_of(node)
    factor = rewriter.insert("Constant", [], {"value": tensor(np.float32(by))}, before=after, graph=value.graph)
    scaled = rewriter.insert("Mul", [value, factor.outputs[0]], before=after, graph=value.graph)
    for use in value.uses:
        if use.user is not scaled and isinstance(use.user, Node):
            rewriter.set_input(use.user, use.slot, scaled.outputs[0])
        elif use.user is not scaled:
            rewriter.set_output(use.user, use.slot, scaled.outputs[0])
    rewriter.swap_names(value, scaled.outputs[0])
    return scaled


def next_of(node: Node) -> Node | None:
    nodes = list(node.graph.nodes) if node.graph is not None else []
    place = nodes.index(node) + 1
    return nodes[place] if place < len(nodes) else None


@given(st.data())
def test_a_single_perturbed_node_is_ranked_first(data: st.DataObject) -> None:
    model = lower(data.draw(models()))
    feed = data.draw(feeds(emit(model)))
    straight = None if runs(model, feed) is None else flat(model, feed)
    if straight is None:
        return
    names = [v.name for n in straight.model.graph.nodes if n.constant is None for v in n.outputs if v.name]
    values = BACKEND.prepare(straight.model, outputs=names).run(feed) if names else {}
    origins = {straight.name(v) for v in straight.model.graph.values() if is_harmable(values.get(v.name))}
    inside = {(path_of(graph), v.name) for graph in model.walk_graphs() for v in graph.values()}
    harmable = sorted(origin for origin in origins if (bare(origin.body), origin.label) in inside)
    if not harmable:
        return
    origin = data.draw(st.sampled_from(harmable))
    harmed = clone_model(model)
    there = {(path_of(graph), v.name): v for graph in harmed.walk_graphs() for v in graph.values()}
    perturb(harmed, there[bare(origin.body), origin.label], 1.5)
    try:
        found = compared(model, harmed, feed)
    except ExecutionError:
        return  # what is computed from the value is refused: a size, say
    first = found.places[0]
    assert (first.value, bare(first.body)) == (origin.label, bare(origin.body))
    assert found.refuted == ()


def path_of(graph: Graph) -> str:
    return graph.label.removeprefix("main").removeprefix("/")


def bare(body: str) -> str:
    """A path without the turns."""
    return re.sub(r"\[\d+\]", "", body)


def is_harmable(value: Any) -> bool:
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or not value.size:
        return False
    return bool(np.isfinite(value).all() and 1e-6 < np.abs(value).max() < 1e6)


NESTED = """
    g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
        a = Neg(x)
        y = If(c) <
            then_branch = t () => (float[2] p) {
                s = Add(a, w)
                p = If(c) <then_branch = i () => (float[2] q) { r = Mul(s, w) q = Abs(r) },
                           else_branch = j () => (float[2] z) { z = Neg(s) }> },
            else_branch = e () => (float[2] u) { r = Mul(a, w) u = Abs(r) }>
    }"""


def named(model: Model, name: str) -> Value:
    return next(v for graph in model.walk_graphs() for v in graph.values() if v.name == name and v.producer is not None)


def test_inside_branches_of_branches_the_place_is_named_with_its_body() -> None:
    model, harmed = lower(model_of(NESTED)), lower(model_of(NESTED))
    node = named(harmed, "q").producer
    assert node is not None
    read = node.inputs[0]
    assert read is not None
    perturb(harmed, read, 2)
    feed = {"c": np.array(True), "x": np.float32([3, 4])}
    found = compared(model, harmed, feed)
    (place,) = found.places
    assert (place.value, place.body) == ("r", "If:y.then_branch/If:p.then_branch")
    assert place.cost == pytest.approx(1)
    assert compared(model, harmed, {**feed, "c": np.array(False)}).places == []
    both = compared(model, harmed, {**feed, "c": np.array(False)}, feed)
    assert [place.value for place in both.places] == ["r"]


LOOP = """
    g (int64 n, float[2] x, float[2] s) => (float[2] y, float[m,2] z) {
        t = Constant <value = bool {1}> ()
        y, z = Loop(n, t, x) <body = b (int64 i, bool go, float[2] state) => (bool on, float[2] next, float[2] out) {
            on = Identity(go)
            k = Cast <to = 1> (i)
            d = Add(state, s)
            next = Mul(d, k)
            out = Neg(next)
        }>
    }"""


@pytest.mark.parametrize("turns", [0, 1, 3, TURNS, TURNS + 5])
def test_a_loop_is_looked_into_turn_by_turn(turns: int) -> None:
    model, harmed = lower(model_of(LOOP)), lower(model_of(LOOP))
    perturb(harmed, named(harmed, "d"), 1.25)
    feed = {"n": np.array(turns), "x": np.float32([3, 4]), "s": np.float32([1, 2])}
    for one in (model, harmed):
        assert all(
            same_bits(found, runs(one, feed)[name])  # type: ignore[index]
            for name, found in BACKEND.prepare(flat(one, feed).model).run(feed).items()
        )
    found = compared(model, harmed, feed, top=20)
    inside = {place.body for place in found.places if place.value == "d"}
    assert inside == {f"Loop:y.body[{turn}]" for turn in range(min(turns, TURNS))}
    whole = {place.value for place in found.places if not place.body}
    assert whole == ({"y", "z"} if turns > TURNS else set())


def test_a_branch_that_was_inlined_still_corresponds() -> None:
    text = """
        g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 3}> {
            a = Neg(x) s = Add(a, w) r = Mul(s, w) y = Abs(r)
        }"""
    found = compared(
        lower(model_of(NESTED)), lower(model_of(text)), {"c": np.array(True), "x": np.float32([3, 4])}, top=9
    )
    assert (found.compared, found.apart) == (4, 0)
    assert {place.value for place in found.places} == {"s", "r"}


CHAIN = """
    g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> {
        a = MatMul(x, w)
        b = Abs(a)
        y = Sqrt(b)
    }"""
ONE = {"x": np.float32([[1, 2], [3, 5]])}


def test_a_name_that_went_to_another_value_is_refuted() -> None:
    """`a` is twice the old one, and `b` halves it again: the numbers are right, the name is not."""
    text = CHAIN.replace("b = Abs(a)", "half = Constant <value = float {0.5}> () h = Mul(a, half) b = Abs(h)")
    second = lower(model_of(text.replace("{1, 2, 3, 4}", "{2, 4, 6, 8}")))
    found = compared(lower(model_of(CHAIN)), second, ONE)
    assert (found.places, found.refuted) == ([], ("a",))


def test_harm_that_does_not_come_through_is_not_refuted() -> None:
    text = CHAIN.replace("b = Abs(a)", "b = Sign(a)")
    second = lower(model_of(text.replace("{1, 2, 3, 4}", "{2, 4, 6, 8}")))
    found = compared(lower(model_of(text)), second, ONE)
    assert ([place.value for place in found.places], found.refuted) == (["a"], ())
    assert found.places[0].cost == 0


def test_structure_overrules_names_that_were_swapped() -> None:
    text = CHAIN.replace("y = Sqrt(b)", "c = Neg(a) y = Add(b, c)")
    model, second = lower(model_of(text)), lower(model_of(text))
    Rewriter(second).swap_names(named(second, "b"), named(second, "c"))
    found = compared(model, second, ONE)
    assert (found.places, found.renamed) == ([], 2)


def test_a_renamed_node_whose_weight_was_changed_is_the_place() -> None:
    second = lower(
        model_of(CHAIN.replace("{1, 2, 3, 4}", "{1, 2, 3, 4.5}").replace("a ", "fresh ").replace("(a)", "(fresh)"))
    )
    found = compared(lower(model_of(CHAIN)), second, ONE)
    assert (found.places[0].value, found.places[0].original, found.places[0].node) == ("fresh", "a", "MatMul:fresh")
    assert found.places[0].mechanism.startswith("changed constant: w is off")


def test_far_weights_are_no_correspondence() -> None:
    far = CHAIN.replace("{1, 2, 3, 4}", "{-9, 2, -3, 40}").replace("a ", "fresh ").replace("(a)", "(fresh)")
    pairs = correspond(Straight(lower(model_of(CHAIN))), Straight(lower(model_of(far))))
    assert [(pair.before.name, pair.after.name) for pair in pairs] == [("b", "b"), ("y", "y")]
