"""The Rewriter: whatever is edited, the model stays sound, and undo leaves no trace."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, parser, printer

from onnxpress.errors import RewriteError
from onnxpress.ir import Edit, Model, Rewriter, Value, emit, lower, tensor, verify
from onnxpress.ir.origin import Origin
from onnxpress.specs import models

from .editing import Editor

ANY_MODEL = models(impure=True)


def data_of(model: Model) -> bytes:
    return emit(model).SerializeToString(deterministic=True)


def snapshot(model: Model) -> list[object]:
    """Everything that undo must bring back, by the objects themselves."""
    state: list[object] = [data_of(model), model.ir_version, dict(model.opset), list(model.functions)]
    for graph in model.walk_graphs():
        state += [list(graph.nodes), list(graph.nodes_reversed), len(graph), graph.inputs, graph.outputs]
        state += [(v, v.name, v.uses, v.tensor, v.is_input, v.graph, v.producer, v.type) for v in graph.values()]
        state += [(n, n.inputs, n.outputs, dict(n.attributes), n.constant) for n in graph.nodes]
    return state


def text_model(text: str) -> Model:
    return lower(parser.parse_model('<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n' + text))


# ---- random edits


@given(st.data(), ANY_MODEL)
def test_random_edits_keep_the_model_sound_and_undo_leaves_no_trace(data: st.DataObject, proto: ModelProto) -> None:
    model = lower(proto)
    outputs = [value.name for value in model.graph.outputs]
    editor = Editor(data.draw, model)
    marks = [(editor.rewriter.mark(), snapshot(model))]
    for _ in range(data.draw(st.integers(1, 8))):
        version, length = model.version, editor.rewriter.mark()
        editor.edit()
        verify(model)
        assert (model.version > version) == (editor.rewriter.mark() > length)
        assert [value.name for value in model.graph.outputs] == outputs
        again = lower(emit(model))
        verify(again)
        assert data_of(again) == data_of(model)
        if data.draw(st.booleans()):
            marks.append((editor.rewriter.mark(), snapshot(model)))
    for mark, state in reversed(marks):
        editor.rewriter.rollback(mark)
        verify(model)
        assert snapshot(model) == state
    assert data_of(model) == proto.SerializeToString(deterministic=True)
    hints = ["v1", "v1", "w", "Identity"]
    fresh = Rewriter(lower(proto))
    assert editor.rewriter._names.fresh_all(model.graph, hints) == fresh._names.fresh_all(fresh.model.graph, hints)


# ---- what replacing keeps


def named(model: Model) -> dict[str, Value]:
    return {value.name: value for graph in model.walk_graphs() for value in graph.values()}


def replaced(text: str, old: str, new: str) -> str:
    """What `replace` makes of a graph, as onnx prints it."""
    model = text_model(text)
    Rewriter(model).replace(named(model)[old], named(model)[new])
    verify(model)
    return printer.to_text(emit(model))


def printed(text: str) -> str:
    return printer.to_text(emit(text_model(text)))


def test_a_value_that_replaces_an_output_takes_its_name() -> None:
    assert replaced("g (float x) => (float y) { a = Neg(x) y = Abs(a) }", "y", "a") == printed(
        "g (float x) => (float y) { y = Neg(x) a = Abs(y) }"
    )


@pytest.mark.parametrize(
    ("new", "source"), [("x", "an input"), ("z", "another output"), ("w", "an outer value, for a body")]
)
def test_an_identity_stands_where_a_name_cannot_be_taken(new: str, source: str) -> None:
    before = """
        g (bool c, float x) => (float y, float z) {
            w = Exp(x)
            y = Abs(x)
            z = If(c) <then_branch = t () => (float p) { p = Neg(w) }, else_branch = e () => (float q) { q = Neg(x) }>
        }"""
    old = "p" if new == "w" else "y"
    after = {
        "x": before.replace("y = Abs(x)", "y_1 = Abs(x)").replace("q = Neg(x) }>", "q = Neg(x) }> y = Identity(x)"),
        "z": before.replace("y = Abs(x)", "y_1 = Abs(x)").replace("q = Neg(x) }>", "q = Neg(x) }> y = Identity(z)"),
        "w": before.replace("p = Neg(w) }", "p = Neg(w) p_1 = Identity(w) }").replace("(float p)", "(float p_1)"),
    }
    assert replaced(before, old, new) == printed(after[new])


def test_readers_in_bodies_are_found_and_outputs_of_functions_keep_their_names() -> None:
    before = """
        g (bool c, float x) => (float y) {
            a = Neg(x)
            y = If(c) <then_branch = t () => (float p) { p = Abs(a) }, else_branch = e () => (float q) { q = Exp(a) }>
        }
        <domain: "local", opset_import: ["" : 17]> f (u) => (v) { b = Neg(u) v = Exp(b) }"""
    assert replaced(before, "a", "x") == printed(before.replace("Abs(a)", "Abs(x)").replace("Exp(a)", "Exp(x)"))
    after = before.replace("b = Neg(u) v = Exp(b)", "v = Neg(u) b = Exp(v)")
    assert replaced(before, "v", "b") == printed(after)


def test_uses_count_across_scopes() -> None:
    model = text_model("""
        g (bool c, float x) => (float y) {
            y = If(c) <then_branch = t () => (float p) { p = Abs(x) }, else_branch = e () => (float q) { q = Exp(x) }>
        }""")
    users = [use.user.label for use in named(model)["x"].uses]
    assert users == ["Abs:p", "Exp:q"]
    (branch,) = model.graph.nodes
    rewriter = Rewriter(model)
    rewriter.replace(branch.outputs[0], named(model)["x"])
    rewriter.erase(branch)
    assert [use.user.label for use in named(model)["x"].uses] == ["Identity:y"]
    assert set(rewriter.journal[-1].released) == {named(model)["c"], named(model)["x"]}


# ---- names, constants, transactions


def test_fresh_names_differ_from_all_names_under_the_same_root() -> None:
    model = text_model("""
        g (bool c, float a) => (float y) {
            y = If(c) <then_branch = t () => (float p) { p = Abs(a) },
                       else_branch = e () => (float a_1) { a_1 = Exp(a) }>
        }
        <domain: "local", opset_import: ["" : 17]> f (u) => (a_2) { a_2 = Neg(u) }""")
    rewriter = Rewriter(model)
    made = [rewriter.insert("Neg", [named(model)["a"]], graph=model.graph, outputs=["a"]) for _ in range(2)]
    assert [node.outputs[0].name for node in made] == ["a_2", "a_3"]
    rewriter.erase(made[0])
    again = rewriter.insert("Split", [named(model)["a"]], graph=model.graph, outputs=["a", "a", "b"])
    assert len({value.name for value in again.outputs} | {"a_3"}) == 4
    verify(model)


def test_a_copy_has_names_of_its_own_inside_its_bodies_too() -> None:
    model = text_model("""
        g (bool c, float[2] x) => (float[2] y) {
            [the_if] y = If (c) <
                then_branch = t () => (float[2] a) { [the_neg] a = Neg (x) },
                else_branch = e () => (float[2] b) { b = Abs (x) }
            >
        }""")
    (node,) = model.graph.nodes
    copies = {model.graph.inputs[1]: model.graph.inputs[1]}
    copy = Rewriter(model).insert_copy(node, copies, before=node)
    verify(model)
    onnx.checker.check_model(emit(model), full_check=True)
    assert copies[node.outputs[0]] is copy.outputs[0]
    assert [v.name for body in copy.bodies for v in body.values()] == ["a_1", "b_1"]
    assert not copy.name
    assert [n.name for body in copy.bodies for n in body.nodes] == ["", ""]
    named = Rewriter(model).insert_copy(node, copies, before=node, keep_names=True)
    assert (named.name, next(named.bodies[0].nodes).name) == ("the_if", "the_neg")


def test_a_copy_of_a_node_of_another_model_reads_what_stands_for_its_inputs() -> None:
    other = text_model("g (float[2] p) => (float[2] q) { q = Relu (p) }")
    model = text_model("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    (foreign,), (node,) = other.graph.nodes, model.graph.nodes
    rewriter = Rewriter(model)
    with pytest.raises(RewriteError, match="out of scope"):
        rewriter.insert_copy(foreign, {}, before=node)
    made = rewriter.insert_copy(foreign, {other.graph.inputs[0]: model.graph.inputs[0]}, before=node)
    rewriter.set_input(node, 0, made.outputs[0])
    verify(model)
    assert [n.op_type for n in lower(emit(model)).graph.nodes] == ["Relu", "Neg"]
    verify(other)


def test_a_constant_is_an_initializer_and_in_a_function_a_node() -> None:
    model = text_model("""
        g (float x) => (float y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 17]> f (u) => (v) { v = Neg(u) }""")
    rewriter, (function,) = Rewriter(model), model.functions.values()
    made = [rewriter.constant(graph, tensor([1.5]), "w") for graph in (model.graph, function.body)]
    assert [value.is_initializer for value in made] == [True, False]
    assert [None if value.const is None else value.const.numpy().tolist() for value in made] == [[1.5], [1.5]]
    assert next(function.body.nodes) is made[1].producer
    verify(model)


def test_a_lifted_constant_is_the_same_value_but_for_what_was_claimed_of_it() -> None:
    model = text_model("g (float x) => (float y) <float[7] w> { w = Constant<value = float {2}>() y = Add(x, w) }")
    rewriter = Rewriter(model)
    rewriter.set_ir_version(3)
    add = list(model.graph.nodes)[1]
    value = rewriter.lift_constant(next(model.graph.nodes))
    assert value is add.inputs[1]
    assert (value.name, value.is_initializer, value.producer) == ("w", True, None)
    assert (list(model.graph.nodes), model.graph.value_infos, model.ir_version) == ([add], (), 4)
    verify(model)


@pytest.mark.parametrize(("before", "after"), [(3, 4), (4, 4), (8, 8)])
def test_an_initializer_needs_ir_version_4(before: int, after: int) -> None:
    model = text_model("g (float x) => (float y) { y = Neg(x) }")
    rewriter = Rewriter(model)
    rewriter.set_ir_version(before)
    rewriter.constant(model.graph, tensor([1.5]), "w")
    assert model.ir_version == after


def test_a_transaction_that_fails_is_undone_and_one_that_does_not_is_kept() -> None:
    model = text_model("g (float x) => (float y) { y = Neg(x) }")
    rewriter, before = Rewriter(model), snapshot(model)

    def insert_and_divide(divisor: int) -> None:
        with rewriter.transaction():
            rewriter.insert("Abs", [model.graph.inputs[0]], graph=model.graph)
            assert 1 // divisor

    with pytest.raises(ZeroDivisionError):
        insert_and_divide(0)
    assert snapshot(model) == before
    insert_and_divide(1)
    assert len(model.graph) == 2


def test_the_journal_says_what_was_done_by_whom_and_listeners_hear_it() -> None:
    model = text_model("g (float x) => (float y) { a = Neg(x) y = Abs(x) }")
    rewriter = Rewriter(model)
    heard: list[Edit] = []
    rewriter.listeners.append(heard.append)
    rewriter.by = "somebody"
    dead = next(model.graph.nodes)
    rewriter.set_attribute(dead, "axis", 1)
    rewriter.erase(dead)
    assert [(edit.kind, edit.by, edit.subject) for edit in heard] == [
        ("set-attribute", "somebody", dead),
        ("erase", "somebody", dead),
    ]
    assert heard == rewriter.journal
    assert heard[1].released == (model.graph.inputs[0],)
    made = rewriter.insert("Exp", [model.graph.inputs[0]], graph=model.graph, origin=[dead, *model.graph.nodes])
    assert (made.origin, made.made_by) == (("Neg:a", "Abs:y"), "somebody")


def test_nodes_may_be_edited_while_they_are_walked() -> None:
    model = text_model("g (float x) => (float y) { a = Neg(x) b = Abs(x) y = Exp(x) }")
    rewriter = Rewriter(model)
    seen = []
    for node in model.graph.nodes:
        seen.append(node.op_type)
        if node.op_type == "Neg":
            following = list(model.graph.nodes)[1]
            rewriter.insert("Sqrt", [model.graph.inputs[0]], before=following)
            rewriter.erase(node)
            rewriter.erase(following)
    assert seen == ["Neg", "Sqrt", "Exp"]
    assert [node.op_type for node in model.graph.nodes_reversed] == ["Exp", "Sqrt"]


# ---- refusals


REFUSED: dict[str, Callable[[Rewriter, dict[str, Value]], object]] = {
    "'a' is still used": lambda rw, v: rw.erase(v["a"].producer),
    "is erased already": lambda rw, v: [rw.erase(v["dead"].producer), rw.erase(v["dead"].producer)],
    "cannot read 'p': it is out of scope": lambda rw, v: rw.set_input(v["y"].producer, 0, v["p"]),
    "new node .* cannot read 'p'": lambda rw, v: rw.insert("Neg", [v["p"]], before=v["y"].producer),
    "neither a graph nor a living node": lambda rw, v: rw.insert("Neg", [v["x"]]),
    "holds nothing that an initializer could hold": lambda rw, v: rw.lift_constant(v["a"].producer),
    "is a graph, which cannot be set": lambda rw, v: rw.set_attribute(v["y"].producer, "then_branch", 1),
    "the name is taken": lambda rw, v: rw.rename(v["a"], "w"),
    "is no unused initializer": lambda rw, v: rw.remove_initializer(v["w"]),
    "'x' is no input with a default": lambda rw, v: rw.unlist_input(v["x"]),
    "'a' is no initializer": lambda rw, v: rw.set_tensor(v["a"], tensor([1.0])),
    "another graph defines it": lambda rw, v: rw.set_output(v["p"].graph, 0, v["a"]),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_would_break_the_graph_is_refused_and_changes_nothing(words: str) -> None:
    model = text_model("""
        g (bool c, float x) => (float y) <float w = {1}> {
            a = Add(x, w)
            dead = Neg(x)
            y = If(c) <then_branch = t () => (float p) { p = Abs(a) }, else_branch = e () => (float q) { q = Exp(a) }>
        }""")
    rewriter, values = Rewriter(model), named(model)
    with pytest.raises(RewriteError, match=words):
        REFUSED[words](rewriter, values)
    verify(model)
    rewriter.rollback(0)
    assert snapshot(model)[0] == data_of(lower(model.source))


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=12))
def test_origins_are_the_labels_in_order_each_once(merges: list[list[int]]) -> None:
    origins = [Origin(f"n{i}") for i in range(3)]
    plain: list[tuple[str, ...]] = [(f"n{i}",) for i in range(3)]
    for places in merges:
        chosen = [place % len(origins) for place in places]
        origins.append(Origin.joined(origins[place] for place in chosen))
        plain.append(tuple(dict.fromkeys(label for place in chosen for label in plain[place])))
    assert [origin.labels() for origin in origins] == plain


def test_origins_of_a_long_row_of_merges_take_no_copies() -> None:
    origin = Origin("0")
    for i in range(1, 20_000):
        origin = Origin.joined([origin, Origin(str(i))])
    assert origin.labels() == tuple(map(str, range(20_000)))
