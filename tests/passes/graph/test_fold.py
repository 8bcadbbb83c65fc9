"""`fold`: what it makes of a graph, what it leaves and why, and that no file grows by more than the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.ir.proto import file_size
from onnxpress.passes.graph.fold import Fold
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.specs import check_golden, model_of, models


def fold(proto: ModelProto, limit: int = 0) -> tuple[ModelProto, Report]:
    model = lower(proto)
    report = PassManager([Fold(limit)], backend=OrtBackend()).run(model)  # type: ignore[arg-type]
    after = emit(model)
    checker.check_model(after, full_check=True)
    return after, report


def ops(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def reasons(report: Report, kind: str = "missed") -> Mapping[str, str]:
    return {remark.subject: remark.reason for remark in report.remarks if remark.kind == kind}


def stored(proto: ModelProto) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in proto.graph.initializer}


# ---- what it does


def test_a_constant_chain_becomes_one_initializer() -> None:
    before = """
        g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 4}> {
            s = Add(a, b)
            t = Mul(s, s)
            y = Add(x, t)
        }"""
    after = """
        g (float[2] x) => (float[2] y) <float[2] t = {16, 36}> {
            y = Add(x, t)
        }"""
    report = check_golden("fold", model_of(before), model_of(after))
    assert reasons(report, "applied") == {"model": "1 values are now stored constants"}


def test_constants_that_others_read_stay() -> None:
    before = """
        g (float[2] x) => (float[2] y, float[2] z) <float[2] a = {1, 2}> {
            long_name_of_a_value_that_is_computed = Neg(a)
            y = Add(x, long_name_of_a_value_that_is_computed)
            z = Mul(x, a)
        }"""
    after, _ = fold(model_of(before), limit=100)
    assert ops(after) == ["Add", "Mul"]
    assert stored(after)["a"] == [1, 2]


def test_every_form_of_constant_node_becomes_an_initializer() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(np.float32([1, 2]))),
        helper.make_node("Constant", [], ["b"], value_float=3.0, doc_string="longer than an initializer"),
        helper.make_node("Constant", [], ["c"], value_floats=[4.0, 5.0], doc_string="longer than an initializer"),
        helper.make_node("Add", ["x", "a"], ["s"]),
        helper.make_node("Add", ["s", "b"], ["t"]),
        helper.make_node("Add", ["t", "c"], ["y"]),
    ]
    after, _ = fold(one_graph(nodes))
    assert ops(after) == ["Add", "Add", "Add"]
    assert stored(after) == {"a": [1, 2], "b": 3, "c": [4, 5]}


def test_a_list_of_small_integers_stays_an_attribute_since_that_is_shorter() -> None:
    before = (
        "g (float[9] x) => (float[9] y) { r = Constant<value_ints = [8, 7, 6, 5, 4, 3, 2, 1, 0]>() y = Gather(x, r) }"
    )
    after, report = fold(model_of(before))
    assert after == model_of(before)
    assert reasons(report)["model"].startswith("nothing is constant")


def test_a_sparse_constant_is_evaluated_with_its_readers_but_never_made_dense_alone() -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.float32([9]), "v"), numpy_helper.from_array(np.int64([1]), "i"), [2]
    )
    constant = helper.make_node("Constant", [], ["a"], sparse_value=sparse)
    read = [helper.make_node("Add", ["x", "a"], ["y"])]
    model = lower(one_graph([constant, *read]))
    assert not PassManager([Fold()], backend=OrtBackend()).run(model).changed
    computed = [helper.make_node("Neg", ["a"], ["n"]), helper.make_node("Add", ["x", "n"], ["y"])]
    after, _ = fold(one_graph([constant, *computed]))
    assert stored(after) == {"n": [0, -9]}


def one_graph(nodes: list[Any], initializers: Sequence[TensorProto] = ()) -> ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [2])], [info("y", TensorProto.FLOAT, [None])], list(initializers)
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_bodies_read_what_was_folded_outside_and_fold_what_is_constant_inside() -> None:
    before = """
        g (bool c, float[2] x) => (float[2] y) <float[2] a = {1, 2}> {
            outside = Neg(a)
            y = If(c) <
                then_branch = t () => (float[2] p) <float[2] w = {5, 5}> { inside = Abs(w) q = Mul(inside, outside)
                                                                          p = Add(q, x) },
                else_branch = e () => (float[2] r) { r = Mul(x, outside) }
            >
        }"""
    after = """
        g (bool c, float[2] x) => (float[2] y) <float[2] outside = {-1, -2}> {
            y = If(c) <
                then_branch = t () => (float[2] p) <float[2] q = {-5, -10}> { p = Add(q, x) },
                else_branch = e () => (float[2] r) { r = Mul(x, outside) }
            >
        }"""
    check_golden("fold", model_of(before), model_of(after))


def test_a_constant_if_is_evaluated_as_a_whole() -> None:
    before = """
        g (float[2] x) => (float[2] y) <bool c = {1}, float[2] a = {1, 2}> {
            r = If(c) <
                then_branch = t () => (float[2] p) { p = Neg(a) },
                else_branch = e () => (float[2] q) { q = Abs(a) }
            >
            y = Add(x, r)
        }"""
    after = "g (float[2] x) => (float[2] y) <float[2] r = {-1, -2}> { y = Add(x, r) }"
    check_golden("fold", model_of(before), model_of(after))


def test_an_if_that_always_takes_one_branch_is_inlined() -> None:
    before = """
        g (float[2] x) => (float[2] y) <bool c = {1}> {
            y = If(c) <then_branch = t () => (float[2] p) { p = Neg(x) },
                       else_branch = e () => (float[2] q) { q = Abs(x) }>
        }"""
    check_golden("fold", model_of(before), model_of("g (float[2] x) => (float[2] y) { y = Neg(x) }"))


def test_the_body_of_a_loop_keeps_what_changes_from_turn_to_turn() -> None:
    before = """
        g (int64 n, float[2] x) => (float[2] y) <bool go = {1}, float[2] w = {1, 2}> {
            y = Loop(n, go, x) <body = b (int64 i, bool k, float[2] s) => (bool k2, float[2] s2) {
                k2 = Identity(k)
                v = Neg(w)
                s2 = Add(s, v)
            }>
        }"""
    after, _ = fold(model_of(before))
    (loop,) = after.graph.node
    assert [node.op_type for node in loop.attribute[0].g.node] == ["Identity", "Add"]
    assert numpy_helper.to_array(loop.attribute[0].g.initializer[0]).tolist() == [-1, -2]


FUNCTION = """
    g (float[2] x) => (float[2] y) { y = local.f <alpha = 0.5> (x) }
    <domain: "local", opset_import: ["" : 17]> f <alpha> (u) => (v) {
        one = Constant <value = float[2] {1, 2}> ()
        two = Neg(one)
        scale = Constant <value_float: float = @alpha> ()
        three = LeakyRelu <alpha: float = @alpha> (two)
        four = Add(three, scale)
        v = Mul(u, four)
    }"""


def test_in_functions_constants_are_nodes_and_attributes_are_no_constants() -> None:
    after = """
        g (float[2] x) => (float[2] y) { y = local.f <alpha = 0.5> (x) }
        <domain: "local", opset_import: ["" : 17]> f <alpha> (u) => (v) {
            two = Constant <value = float[2] {-1, -2}> ()
            scale = Constant <value_float: float = @alpha> ()
            three = LeakyRelu <alpha: float = @alpha> (two)
            four = Add(three, scale)
            v = Mul(u, four)
        }"""
    check_golden("fold{limit=50}", model_of(FUNCTION), model_of(after))


def test_a_call_with_constant_operands_is_evaluated_and_the_function_goes_with_it() -> None:
    before = FUNCTION.replace("{ y = local.f <alpha = 0.5> (x) }", "<float[2] a = {1, 2}> { s = local.f <alpha = 0.5> (a) y = Add(x, s) }")  # fmt: skip # noqa: E501
    after, _ = fold(model_of(before))
    assert ops(after) == ["Add"]
    assert not after.functions
    assert stored(after) == {"s": [0.0, -1.0]}


def test_graph_outputs_that_are_constant_are_stored_under_their_names() -> None:
    before = "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { y = Neg(a) }"
    check_golden("fold", model_of(before), model_of("g (float[2] x) => (float[2] y) <float[2] y = {-1, -2}> {}"))


# ---- what it leaves


@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_a_default_of_an_input_is_no_constant(ir_version: int) -> None:
    before = "g (float[2] x, float[2] a = {1, 2}) => (float[2] y) { s = Neg(a) y = Add(x, s) }"
    after, _ = fold(model_of(before, ir_version=ir_version))
    assert after == model_of(before, ir_version=ir_version)


def test_a_model_of_ir_version_3_is_raised_to_4_with_a_remark() -> None:
    before = "g (float[2] x) => (float[2] y) { a = Constant <value = float[2] {1, 2}> () y = Add(x, a) }"
    after, report = fold(model_of(before, ir_version=3, opset=8))
    assert after.ir_version == 4
    assert reasons(report, "applied")["model"] == "IR version raised from 3 to 4"


def test_what_is_dead_stays_until_dce() -> None:
    before = "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { dead = Neg(a) y = Neg(x) }"
    assert fold(model_of(before), limit=1000)[0] == model_of(before)
    check_golden("fold,dce", model_of(before), model_of("g (float[2] x) => (float[2] y) { y = Neg(x) }"))


RANDOM = {
    "RandomNormal": "r = RandomNormal <shape = [2]> ()",
    "RandomUniformLike": "r = RandomUniformLike (a)",
    "Bernoulli": "r = Bernoulli (a)",
    "Dropout": "r = Dropout (a, ratio, training)",
    "Multinomial": (
        "m = Unsqueeze(a, zero) i = Multinomial <sample_size = 2> (m) f = Cast <to = 1> (i) r = Squeeze(f, zero)"
    ),
    "Mystery": "r = local.Mystery (a)",
}


@pytest.mark.parametrize("op_type", RANDOM)
def test_random_and_unknown_nodes_are_never_folded(op_type: str) -> None:
    weights = "float[2] a = {1, 2}, float ratio = {0.5}, bool training = {1}, int64[1] zero = {0}"
    before = f"g (float[2] x) => (float[2] y) <{weights}> {{ {RANDOM[op_type]} y = Add(x, r) }}"
    after, _ = fold(model_of(before), limit=10**6)
    assert op_type in ops(after)


def test_dropout_is_folded_where_a_constant_says_that_nobody_trains() -> None:
    weights = "float[2] a = {1, 2}, float ratio = {0.5}, bool training = {0}"
    before = f"g (float[2] x) => (float[2] y) <{weights}> {{ r = Dropout(a, ratio, training) y = Add(x, r) }}"
    assert ops(fold(model_of(before))[0]) == ["Add"]


def test_what_training_information_names_is_no_constant() -> None:
    before = model_of(
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> { s = Neg(a) t = Neg(b)"
        " u = Add(s, t) y = Add(x, u) }"
    )
    training = before.training_info.add()
    training.update_binding.add(key="a", value="a")
    after, _ = fold(before, limit=100)
    assert ops(after) == ["Neg", "Add", "Add"]
    assert stored(after) == {"a": [1, 2], "t": [-1, -2]}


def test_what_training_information_names_stays_computed() -> None:
    before = model_of("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { m = Neg(w) y = Add(x, m) }")
    before.training_info.add().update_binding.add(key="state", value="m")
    assert fold(before, limit=100)[0] == before


def test_strings_stay_computed_since_their_size_is_unknown() -> None:
    words = helper.make_tensor("words", TensorProto.STRING, [2], [b"one", b"two"])
    rows = numpy_helper.from_array(np.int64([1, 0]), "rows")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gather", ["words", "rows"], ["y"])],
        "g",
        [info("x", TensorProto.FLOAT, [2])],
        [info("y", TensorProto.STRING, [2])],
        [words, rows],
    )
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after, report = fold(before, limit=1000)
    assert after == before
    assert reasons(report)["Gather:y"] == "constant, but the size of its result is unknown"


# ---- the limit


def test_a_value_of_unknown_size_stays_computed() -> None:
    before = "g (float[2] x) => (int64[1, n] y) <float[3] a = {0, 1, 2}> { y = NonZero(a) }"
    after, report = fold(model_of(before), limit=10**9)
    assert after == model_of(before)
    assert reasons(report)["NonZero:y"] == "constant, but the size of its result is unknown"


BLOWN_UP = """
    g (float[1000] x) => (float[1000] y) <int64[1] n = {1000}> {
        zeros = ConstantOfShape(n)
        y = Add(x, zeros)
    }"""


def test_a_small_recipe_of_a_large_tensor_stays() -> None:
    after, report = fold(model_of(BLOWN_UP))
    assert after == model_of(BLOWN_UP)
    (remark,) = (r for r in report.remarks if r.rule == "limit")
    assert remark.reason == "constant, but its result of 4000 bytes would make the file grow"
    assert remark.suggestion == "fold{limit=4018} evaluates it"
    assert ops(fold(model_of(BLOWN_UP), limit=4018)[0]) == ["Add"]
    assert ops(fold(model_of(BLOWN_UP), limit=3900)[0]) == ["ConstantOfShape", "Add"]


def test_a_large_step_between_small_constants_is_no_obstacle() -> None:
    before = """
        g (float x) => (float y) <int64[1] n = {1000}, int64 row = {3}> {
            zeros = ConstantOfShape(n)
            one = Gather(zeros, row)
            y = Add(x, one)
        }"""
    check_golden("fold", model_of(before), model_of("g (float x) => (float y) <float one = {0}> { y = Add(x, one) }"))


def test_a_shared_weight_is_not_duplicated_into_the_branches() -> None:
    """Each branch would store its own transposed copy, and the original would stay for the other reader."""
    before = model_of(
        """
        g (bool c, float[64] x) => (float[n] y) <float[1] small = {1}> {
            y = If(c) <
                then_branch = t () => (float[64] p) { wt = Transpose <perm = [1, 0]> (w) p = MatMul(x, wt) },
                else_branch = e () => (float[64] q) { vt = Transpose <perm = [1, 0]> (w) q = MatMul(x, vt) }
            >
        }""".replace("<float[1] small = {1}>", "<float[1] w = {1}>")
    )
    before.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((64, 64), np.float32), "w"))
    after, report = fold(before)
    assert after == before
    assert sum(remark.rule == "limit" for remark in report.remarks) == 2
    assert ops(fold(before, limit=2 * 64 * 64 * 4 + 100)[0]) == ["If"]


def test_encoded_data_are_weighed_as_they_are_stored() -> None:
    """Small integers take a byte each in `int64_data`, and eight in the raw form that results have."""
    ones = helper.make_tensor("ones", TensorProto.INT64, [100], [1] * 100)
    name = "a_name_long_enough_to_pay_for_an_initializer" * 2
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Neg", ["ones"], ["minus"], name=name), helper.make_node("Add", ["x", "minus"], ["y"])],
        "g",
        [info("x", TensorProto.INT64, [100])],
        [info("y", TensorProto.INT64, [100])],
        [ones],
    )
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert fold(before)[0] == before


@given(models(), st.sampled_from([0, 100, 10_000]))
def test_no_file_grows_by_more_than_the_limit(proto: ModelProto, limit: int) -> None:
    model = lower(proto)
    PassManager([Fold(limit)], backend=OrtBackend()).run(model)  # type: ignore[arg-type]
    assert file_size(model) == emit(model).ByteSize() <= proto.ByteSize() + limit
