"""`fold` on Ifs: the branch that is always taken stands in the place of the node, all else stays."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, checker

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import emit, lower
from onnxpress.ir.proto import file_size
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.specs import check_golden, model_of


def fold(proto: ModelProto) -> tuple[ModelProto, Report]:
    model = lower(proto)
    report = PassManager("fold", backend=OrtBackend()).run(model)
    after = emit(model)
    checker.check_model(after, full_check=True)
    return after, report


def ops(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def test_a_rank_decides() -> None:
    before = """
        g (float[N,4] x) => (float[1,N,4] y) <int64 two = {2}> {
            shape = Shape(x)
            rank = Size(shape)
            flat = Equal(rank, two)
            y = If(flat) <
                then_branch = t () => (float[1,N,4] p) {
                    axes = Constant<value = int64[1] {0}>() p = Unsqueeze(x, axes) },
                else_branch = e () => (float[1,N,4] q) { q = Identity(x) }>
        }"""
    after = """
        g (float[N,4] x) => (float[1,N,4] y) <int64[1] axes = {0}> {
            y = Unsqueeze(x, axes)
        }"""
    check_golden("fold", model_of(before), model_of(after))


def test_weights_and_names_of_the_branch_stay() -> None:
    before = """
        g (float[2] x) => (float[2] y) <bool c = {0}> {
            y = If(c) <
                then_branch = t () => (float[2] p) { p = Neg(x) },
                else_branch = e () => (float[2] q) <float[2] w = {3, 4}> { [mul] a = Mul(x, w) [exp] q = Exp(a) }>
        }"""
    after = """
        g (float[2] x) => (float[2] y) <float[2] w = {3, 4}> {
            [mul] a = Mul(x, w)
            [exp] y = Exp(a)
        }"""
    check_golden("fold", model_of(before), model_of(after))


def test_ifs_within_ifs() -> None:
    before = """
        g (float[2] x) => (float[2] y) <bool c = {0}, bool d = {1}> {
            y = If(c) <
                then_branch = t () => (float[2] p) { p = Neg(x) },
                else_branch = e () => (float[2] q) {
                    a = Exp(x)
                    q = If(d) <then_branch = t2 () => (float[2] r) { r = Abs(a) },
                               else_branch = e2 () => (float[2] s) { s = Sin(a) }>
                }>
        }"""
    after = "g (float[2] x) => (float[2] y) { a = Exp(x) y = Abs(a) }"
    check_golden("fold", model_of(before), model_of(after))


def test_a_value_around_the_if_that_is_an_output_is_copied() -> None:
    before = """
        g (float[2] x) => (float[2] y, float[2] a) <bool c = {1}> {
            a = Exp(x)
            y = If(c) <then_branch = t () => (float[2] p) { p = Identity(a) },
                       else_branch = e () => (float[2] q) { q = Neg(a) }>
        }"""
    after, _ = fold(model_of(before))
    assert ops(after) == ["Exp", "Identity"]


def test_the_branch_that_makes_the_model_fail_is_never_taken() -> None:
    """An LSTM takes three dimensions: if the size is not 1, four arrive, and the model fails."""
    before = model_of("""
        g (float[T,B,4,L] x, float[1,8,4] w, float[1,8,2] r) => (float[T,1,B,2] y)
        <int64[1] last = {-1}, int64[1] one = {1}> {
            shape = Shape(x)
            size = Gather(shape, last)
            single = Equal(size, one)
            z = If(single) <
                then_branch = t () => (float[P,Q,R] p) { p = Squeeze(x, last) },
                else_branch = e () => (float[P,Q,R,S] q) { q = Identity(x) }>
            y = LSTM<hidden_size = 2>(z, w, r)
        }""")
    after, _ = fold(before)
    assert ops(after) == ["Squeeze", "LSTM"]
    rng = np.random.default_rng(0)
    data = {"w": rng.standard_normal((1, 8, 4)), "r": rng.standard_normal((1, 8, 2))}
    for size in (1, 2):
        feed = {"x": rng.standard_normal((3, 2, 4, size)), **data}
        feed = {name: array.astype(np.float32) for name, array in feed.items()}
        old, new = (OrtBackend().prepare(lower(proto)) for proto in (before, after))
        if size == 1:
            assert old.run(feed)["y"].tobytes() == new.run(feed)["y"].tobytes()
        else:
            for session in (old, new):
                with pytest.raises(ExecutionError):
                    session.run(feed)


# ---- loops

LOOP = """
    g (float[2] x, {inputs}) => (float[2] y{declared}) <{constants}> {{
        y{outputs} = Loop({trips}, {go}, x) <
            body = b (int64 i, bool k, float[2] s) => (bool k2, float[2] s2{stacked}) {{
            k2 = Identity(k)
            f = CastLike(i, s)
            a = Exp(s)
            s2 = Add(a, f){stack}
        }}>
    }}"""
PLAIN = {"declared": "", "outputs": "", "stacked": "", "stack": "", "inputs": "bool free"}


def loop(constants: str, trips: str, go: str, **changes: str) -> ModelProto:
    return model_of(LOOP.format(constants=constants, trips=trips, go=go, **{**PLAIN, **changes}))


def test_a_loop_of_one_turn_is_its_body() -> None:
    after, _ = fold(loop("int64 n = {1}, bool c = {1}", "n", "c"))
    assert ops(after) == ["Exp", "Add"]
    x = np.array([0.5, -2], np.float32)
    old = OrtBackend().prepare(lower(loop("int64 n = {1}, bool c = {1}", "n", "c")))
    feed = {"x": x, "free": np.array(True)}
    assert old.run(feed)["y"].tobytes() == OrtBackend().prepare(lower(after)).run(feed)["y"].tobytes()


@pytest.mark.parametrize(
    "start", [("int64 n = {0}, bool c = {1}", "n", "c"), ("int64 n = {3}, bool c = {0}", "n", "c")]
)
def test_a_loop_of_no_turn_gives_its_initial_values(start: tuple[str, str, str]) -> None:
    after, _ = fold(loop(*start))
    assert ops(after) == ["Identity"]


@pytest.mark.parametrize(
    "kept",
    [
        loop("int64 n = {2}, bool c = {1}", "n", "c"),
        loop("int64 n = {1}", "n", "free"),
        loop("bool c = {1}", "m", "c", inputs="bool free, int64 m"),
        loop(
            "int64 n = {1}, bool c = {1}",
            "n",
            "c",
            declared=", float[N,2] z",
            outputs=", z",
            stacked=", float[2] t",
            stack=" t = Neg(s2)",
        ),
    ],
    ids=["two turns", "a condition that is fed", "a limit that is fed", "stacked results"],
)
def test_a_loop_stays(kept: ModelProto) -> None:
    after, _ = fold(kept)
    assert "Loop" in ops(after)


# ---- what stays

STAY = {
    "a condition that is not known": """
        g (float[N] x) => (float[N] y) <int64[1] one = {1}> {
            s = Shape(x)
            c = Equal(s, one)
            y = If(c) <then_branch = t () => (float[N] p) { p = Neg(x) },
                       else_branch = e () => (float[N] q) { q = Abs(x) }>
        }""",
    "a condition that can be overridden": """
        g (float[N] x, bool c = {1}) => (float[N] y) {
            y = If(c) <then_branch = t () => (float[N] p) { p = Neg(x) },
                       else_branch = e () => (float[N] q) { q = Abs(x) }>
        }""",
    "random numbers in the other branch": """
        g (float[2] x) => (float[2] y) <bool c = {1}> {
            y = If(c) <then_branch = t () => (float[2] p) { p = Neg(x) },
                       else_branch = e () => (float[2] q) { q = RandomNormalLike(x) }>
        }""",
    "half precision": """
        g (float16[2] x) => (float16[2] y) <bool c = {1}> {
            a = Add(x, x)
            y = If(c) <then_branch = t () => (float16[2] p) { p = Add(a, a) },
                       else_branch = e () => (float16[2] q) { q = Neg(a) }>
        }""",
}


@pytest.mark.parametrize("what", STAY)
def test_an_if_stays(what: str) -> None:
    after, _ = fold(model_of(STAY[what]))
    assert "If" in ops(after)


def test_it_says_why_an_if_stays() -> None:
    _, report = fold(model_of(STAY["random numbers in the other branch"]))
    assert any("random or unknown" in remark.reason for remark in report.remarks)


def test_random_numbers_of_the_taken_branch_move_out() -> None:
    before = """
        g (float[2] x) => (float[2] y) <bool c = {0}> {
            y = If(c) <then_branch = t () => (float[2] p) { p = Neg(x) },
                       else_branch = e () => (float[2] q) { q = RandomNormalLike(x) }>
        }"""
    check_golden("fold", model_of(before), model_of("g (float[2] x) => (float[2] y) { y = RandomNormalLike(x) }"))


def test_a_weight_that_two_branches_read_is_not_stored_twice() -> None:
    text = "{" + ", ".join(["1.5"] * 64) + "}"
    before = model_of(f"""
        g (bool c, bool d, float[8,8] x) => (float[8,8] y, float[8,8] z) <bool yes = {{1}}, float[64] w = {text}> {{
            y = If(yes) <then_branch = t () => (float[8,8] p) {{
                             k = Constant<value = int64[2] {{8,8}}>() v = Reshape(w, k) p = Mul(x, v) }},
                         else_branch = e () => (float[8,8] q) {{ q = Neg(x) }}>
            z = If(d) <then_branch = t2 () => (float[8,8] r) {{
                             k2 = Constant<value = int64[2] {{8,8}}>() v2 = Reshape(w, k2) r = Add(x, v2) }},
                       else_branch = e2 () => (float[8,8] s) {{ s = Neg(x) }}>
        }}""")
    after, _ = fold(before)
    assert file_size(lower(after)) <= file_size(lower(before))
