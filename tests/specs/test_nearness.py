"""The generic judge lets right rewrites through and catches every kind of wrong one for its own reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto

from onnxpress.errors import UserError
from onnxpress.ir import Graph, Node, Value, tensor
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.bounds import LocalBound
from onnxpress.passes.manager.context import Context
from onnxpress.specs import BrokenPromiseError, Checked, check_pass, model_of

pytestmark = pytest.mark.usefixtures("_unshrunk")
Rewrite = Callable[[Graph, Context], None]


def doing(rewrite: Rewrite, effect: Effect = Effect.ROUNDING) -> type[Pass]:
    """A pass that does `rewrite` on every graph."""
    declared = effect

    @dataclass(frozen=True)
    class Doing(Pass):
        """Do it."""

        name: ClassVar[str] = "doing"
        effect: ClassVar[Effect] = declared
        scope = "graph"
        idempotent: ClassVar[bool] = False

        def run(self, graph: Graph, ctx: Context) -> None:
            rewrite(graph, ctx)

    return Doing


def check(rewrite: Rewrite, model: ModelProto, effect: Effect = Effect.ROUNDING) -> Checked:
    return check_pass(doing(rewrite, effect), models=st.just(model), max_examples=15)


def nodes(graph: Graph, op_type: str) -> list[Node]:
    return [node for node in graph.nodes if node.op_type == op_type]


def put(ctx: Context, old: Node, op_type: str, inputs: list[Value | None], **attributes: float) -> None:
    """A new node in the place of `old`."""
    made = ctx.rewriter.insert(op_type, inputs, before=old)
    for name, value in attributes.items():
        ctx.rewriter.set_attribute(made, name, value)
    ctx.rewriter.take_over(old.outputs[0], made.outputs[0])
    ctx.rewriter.erase(old)


def constant(value: Value | None) -> np.ndarray:
    assert value is not None
    assert value.const is not None
    return value.const.numpy()


def scaled(factor: float) -> Rewrite:
    """Mul(MatMul(x, W), s) becomes MatMul(x, W s factor)."""

    def rewrite(graph: Graph, ctx: Context) -> None:
        for node in nodes(graph, "Mul"):
            product, scale = node.inputs
            assert product is not None
            before = product.producer
            if before is None or before.op_type != "MatMul":
                continue
            weight = (constant(before.inputs[1]) * constant(scale) * np.float32(factor)).astype(np.float32)
            made = ctx.rewriter.constant(node.graph, tensor(weight), "w", before=node)
            put(ctx, node, "MatMul", [before.inputs[0], made])
            ctx.rewriter.erase(before)

    return rewrite


WEIGHTS = "<float[3,4] w = {1.1,-2,3,4,5,-6,7.3,8,9.7,-10,11,0}, float[4] s = {0.3,-0.7,1,1e-3}>"
SCALED = {
    "main": model_of(f"g (float[n,3] x) => (float[n,4] y) {WEIGHTS} {{ m = MatMul(x, w) y = Mul(m, s) }}"),
    "If": model_of(f"""g (float[n,3] x, bool b) => (float[n,4] y) {WEIGHTS} {{ y = If (b) <
        then_branch = t () => (float[n,4] y1) {{ m = MatMul(x, w) y1 = Mul(m, s) }},
        else_branch = e () => (float[n,4] y2) {{ m2 = MatMul(x, w) y2 = Identity(m2) }}> }}"""),
    "Loop": model_of(f"""g (float[n,3] x, float[n,4] z) => (float[n,4] y)
        {WEIGHTS[:-1]}, int64 k = {{3}}, bool on = {{1}}> {{ y = Loop (k, on, z) <
        body = b (int64 i, bool c, float[n,4] a) => (bool c2, float[n,4] a2)
        {{ m = MatMul(x, w) d = Mul(m, s) a2 = Add(a, d) c2 = Identity(c) }}> }}"""),
    "function": model_of("""g (float[n,3] x) => (float[n,4] y) { u = local.f(x) v = local.f(x) y = Add(u, v) }
        <domain: "local", opset_import: ["" : 17]> f (x) => (y) {
        w = Constant <value = float[3,4] {1.1,-2,3,4,5,-6,7.3,8,9.7,-10,11,0}> ()
        s = Constant <value = float[4] {0.3,-0.7,1,1e-3}> ()
        m = MatMul(x, w) y = Mul(m, s) }"""),
}


@pytest.mark.parametrize("place", SCALED)
def test_a_scale_may_go_into_a_weight(place: str) -> None:
    checked = check(scaled(1), SCALED[place])
    assert checked.judged == checked.changed > 0


@pytest.mark.parametrize("place", SCALED)
@pytest.mark.parametrize("factor", [1.0001, -1])
def test_a_wrong_coefficient_is_caught(place: str, factor: float) -> None:
    with pytest.raises(BrokenPromiseError, match="times as far off as rounding allows"):
        check(scaled(factor), SCALED[place])


CHAIN = model_of("""g (float[n,3] x) => (float[n,3] y) <float[3] s = {0.3,-0.7,1}, float[3] t = {2,3,0.1}>
    { m = Mul(x, s) r = Relu(m) y = Mul(r, t) }""")


def halved(said: float) -> Rewrite:
    """m and r are halved, called otherwise, and said to have been multiplied by `said`; half a step is allowed."""

    def rewrite(graph: Graph, ctx: Context) -> None:
        first, relu, last = graph.nodes
        for node, factor in ((first, 0.5), (last, 2.0)):
            old = node.inputs[1]
            assert old is not None
            made = ctx.rewriter.constant(graph, tensor(constant(old) * np.float32(factor)), "c")
            ctx.rewriter.set_input(node, 1, made)
        for node in (first, relu):
            value = node.outputs[0]
            old_name = value.name
            ctx.rewriter.rename(value, f"{old_name}_half")
            factors = np.full(3, said)
            ctx.bounds.append(LocalBound("doing", "main", value.name, "scaled", 1, factors, old_name))
            ctx.bounds.append(LocalBound("doing", "main", value.name, "absolute", 1, np.full(3, 1e-6)))

    return rewrite


def test_a_scaled_value_is_judged_in_its_own_scale() -> None:
    assert check(halved(0.5), CHAIN, Effect.LOSSY).judged > 0


def test_a_wrong_factor_is_caught() -> None:
    with pytest.raises(BrokenPromiseError, match=r"_half' is .* times as far off as its bound allows"):
        check(halved(0.25), CHAIN, Effect.LOSSY)


NORM = model_of("""g (float[n,4] x) => (float[n,4] y)
    <int64[1] axis = {-1}, float two = {2}, float eps = {0.001}, float[4] s = {1,2,-0.3,4}, float[4] b = {0,1,2,0.1}> {
    m = ReduceMean <axes = [-1]> (x)  d = Sub(x, m)  q = Pow(d, two)  v = ReduceMean <axes = [-1]> (q)
    e = Add(v, eps)  r = Sqrt(e)  n1 = Div(d, r)  n2 = Mul(n1, s)  y = Add(n2, b) }""")


def recognized(epsilon: float) -> Rewrite:
    def rewrite(graph: Graph, ctx: Context) -> None:
        (last,) = nodes(graph, "Add")[1:] or [None]
        if last is None:
            return
        scale, bias = nodes(graph, "Mul")[0].inputs[1], last.inputs[1]
        put(ctx, last, "LayerNormalization", [graph.inputs[0], scale, bias], epsilon=epsilon)

    return rewrite


def test_a_normalization_may_be_recognized() -> None:
    assert check(recognized(0.001), NORM).judged > 0


@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 0.00101])
def test_a_lost_epsilon_is_caught(epsilon: float) -> None:
    with pytest.raises(BrokenPromiseError, match=r"times as far off as rounding allows|is finite in one model and NaN"):
        check(recognized(epsilon), NORM)


GELU = model_of(
    """g (float[n,4] x) => (float[n,4] y) <float r = {0.70710677}, float one = {1}, float half = {0.5}> {
    a = Mul(x, r)  e = Erf(a)  p = Add(e, one)  q = Mul(x, p)  y = Mul(q, half) }""",
    opset=20,
    ir_version=9,
)


def gelu(approximate: str) -> Rewrite:
    def rewrite(graph: Graph, ctx: Context) -> None:
        for node in nodes(graph, "Mul")[2:]:
            put(ctx, node, "Gelu", [graph.inputs[0]], approximate=approximate)  # type: ignore[arg-type]

    return rewrite


def test_a_gelu_may_be_recognized() -> None:
    assert check(gelu("none"), GELU).judged > 0


def test_another_gelu_is_caught() -> None:
    with pytest.raises(BrokenPromiseError, match="times as far off as rounding allows"):
        check(gelu("tanh"), GELU)


def becomes(op_type: str, to: Callable[[Graph, Context, Node], Value]) -> Rewrite:
    def rewrite(graph: Graph, ctx: Context) -> None:
        for node in nodes(graph, op_type):
            put(ctx, node, "Identity", [to(graph, ctx, node)])

    return rewrite


def first(graph: Graph, ctx: Context, node: Node) -> Value:
    assert node.inputs[0] is not None
    return node.inputs[0]


def zeros(graph: Graph, ctx: Context, node: Node) -> Value:
    return ctx.rewriter.constant(graph, tensor(np.zeros((4,), np.float32)), "zero", before=node)


ADDED = model_of("g (float[4] x) => (float[4] y) <float z = {0}> { y = Add(x, z) }")
NOTHING = model_of("g (float[4] x) => (float[4] y) <float z = {0}> { y = Mul(x, z) }")


def test_a_sum_with_zero_may_go() -> None:
    assert check(becomes("Add", first), ADDED).judged > 0


def test_nan_and_infinity_must_come_out() -> None:
    with pytest.raises(BrokenPromiseError, match="is finite in one model and NaN or infinite in the other"):
        check_pass(doing(becomes("Mul", zeros)), models=st.just(NOTHING), max_examples=100)


def test_an_exact_pass_must_not_round() -> None:
    with pytest.raises(BrokenPromiseError, match="not equal to the bit"):
        check(scaled(1), SCALED["main"], Effect.EXACT)


SIZES = model_of("""g (float[n,2,2] x) => (float[n,4] y) <int64 zero = {0}, int64[1] four = {4}, int64[1] at = {0}> {
    s = Shape(x)  n0 = Gather(s, zero)  n1 = Unsqueeze(n0, at)
    t = Concat <axis = 0> (n1, four)  y = Reshape(x, t) }""")


def size_is_baked_in(graph: Graph, ctx: Context) -> None:
    for node in nodes(graph, "Concat"):
        ctx.rewriter.replace(node.outputs[0], ctx.rewriter.constant(graph, tensor([2, 4]), "baked", before=node))
        ctx.rewriter.erase(node)


def test_another_size_of_a_dimension_is_tried() -> None:
    with pytest.raises(BrokenPromiseError, match="refuses the result"):
        check(size_is_baked_in, SIZES)


# ---- bounds


def rounded(stated: float | None, *, form: str = "linear") -> Rewrite:
    """Weights rounded to halves, with a bound that is `stated` times the true one."""

    def rewrite(graph: Graph, ctx: Context) -> None:
        for node in nodes(graph, "MatMul"):
            value = node.inputs[1]
            assert value is not None
            old = constant(value).astype(np.float64)
            new = np.round(old * 2) / 2
            made = ctx.rewriter.constant(node.graph, tensor(new.astype(np.float32)), "rounded", before=node)
            ctx.rewriter.set_input(node, 1, made)
            if stated is not None:
                sums = np.abs(new - old).sum(0) * stated
                ctx.bounds.append(LocalBound("doing", graph.label, node.outputs[0].name, form, 1, sums, made.name))

    return rewrite


@pytest.mark.parametrize("place", SCALED)
def test_a_bound_that_holds(place: str) -> None:
    checked = check(rounded(1), SCALED[place], Effect.LOSSY)
    assert checked.judged == checked.changed > 0


@pytest.mark.parametrize("place", SCALED)
def test_a_bound_that_is_too_small_is_caught(place: str) -> None:
    with pytest.raises(BrokenPromiseError, match=r"'m2?'.* times as far off as its bound allows"):
        check_pass(doing(rounded(0.3), Effect.LOSSY), models=st.just(SCALED[place]), max_examples=100)


@pytest.mark.parametrize("place", SCALED)
def test_numbers_that_change_without_a_bound_are_caught(place: str) -> None:
    with pytest.raises(BrokenPromiseError, match="and the pass reports no bound for it"):
        check(rounded(None), SCALED[place], Effect.LOSSY)


def test_a_form_that_nobody_knows_needs_a_bound_of_the_author() -> None:
    with pytest.raises(UserError, match=r"nobody knows bounds of the form 'cubic' .*: give bound="):
        check(rounded(1, form="cubic"), SCALED["main"], Effect.LOSSY)


def test_models_of_every_kind_stand_being_judged() -> None:
    """Nothing is changed but names of nodes: the judge finds nothing wrong, whatever it is shown."""

    def renames(graph: Graph, ctx: Context) -> None:
        for node in nodes(graph, "Identity"):
            put(ctx, node, "Identity", [node.inputs[0]])

    for effect in (Effect.ROUNDING, Effect.LOSSY):
        checked = check_pass(doing(renames, effect), max_examples=60)
        assert checked.judged > 10
