"""`check_pass` finds every kind of wrong pass, and lets a right one through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Literal

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError, UserError
from onnxpress.ir import Graph, Model, Node, Session, tensor
from onnxpress.passes.graph.dce import Dce
from onnxpress.passes.graph.fold import Fold
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.options import option
from onnxpress.passes.manager.units import Size
from onnxpress.specs import BrokenPromiseError, Trial, check_pass, model_of, models, passes

EXAMPLES = 400
CALLS = count()


@dataclass(frozen=True)
class Nothing(Pass):
    """Do nothing."""

    name: ClassVar[str] = "nothing"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        pass


def wrong(rewrite: Callable[[Graph, Context], None]) -> type[Pass]:
    """A pass that claims to be exact and idempotent, and does `rewrite`."""

    @dataclass(frozen=True)
    class Wrong(Nothing):
        name: ClassVar[str] = rewrite.__name__.replace("_", "-")

        def run(self, graph: Graph, ctx: Context) -> None:
            rewrite(graph, ctx)

    return Wrong


def first(graph: Graph, *op_types: str) -> Node | None:
    return next((node for node in graph.nodes if node.op_type in op_types), None)


def numbers_change(graph: Graph, ctx: Context) -> None:
    """Every weight of floats is five."""
    for value in graph.initializers:
        if value.const is not None and value.const.dtype == TensorProto.FLOAT:
            array = value.const.numpy()
            if not (array == 5).all():
                ctx.rewriter.set_tensor(value, tensor(np.full_like(array, 5)))


def negative_zero_is_lost(graph: Graph, ctx: Context) -> None:
    """Neg becomes a subtraction from zero."""
    for node in graph.nodes:
        if node.op_type == "Neg" and ctx.shapes().dtype(node.outputs[0]) == TensorProto.FLOAT:
            zero = ctx.rewriter.constant(graph, tensor(np.float32(0)), "zero")
            made = ctx.rewriter.insert("Sub", [zero, node.inputs[0]], before=node)
            ctx.rewriter.replace(node.outputs[0], made.outputs[0])
            ctx.rewriter.erase(node)


def attribute_is_dropped(graph: Graph, ctx: Context) -> None:
    node = first(graph, "ArgMax")
    if node is not None and "axis" in node.attributes:
        ctx.rewriter.set_attribute(node, "axis", None)


def relus_are_lost(graph: Graph, ctx: Context) -> None:
    for node in graph.nodes:
        if node.op_type == "Relu" and node.inputs[0] is not None:
            ctx.rewriter.replace(node.outputs[0], node.inputs[0])
            ctx.rewriter.erase(node)


def output_is_dropped(graph: Graph, ctx: Context) -> None:
    if len(graph.outputs) > 1:
        ctx.rewriter.set_ir_version(ctx.model.ir_version)
        last = graph._outputs.pop()
        graph._output_infos.pop()
        del last._uses[next(use for use in last.uses if use.user is graph)]


def input_is_renamed(graph: Graph, ctx: Context) -> None:
    if not graph.inputs[0].name.startswith("renamed"):
        ctx.rewriter.rename(graph.inputs[0], "renamed")


def output_type_is_changed(graph: Graph, ctx: Context) -> None:
    if graph.output_infos[0].type.tensor_type.shape.dim:
        info = type(graph.output_infos[0])()
        info.CopyFrom(graph.output_infos[0])
        del info.type.tensor_type.shape.dim[:]
        graph._output_infos[0] = info
        ctx.rewriter.set_ir_version(ctx.model.ir_version)


def grows_at_every_run(graph: Graph, ctx: Context) -> None:
    node = first(graph, "Relu")
    if node is not None:
        ctx.rewriter.insert("Relu", [node.inputs[0]], before=node, outputs=["again"])


def edits_for_nothing(graph: Graph, ctx: Context) -> None:
    ctx.rewriter.set_ir_version(ctx.model.ir_version)


def names_come_from_a_counter(graph: Graph, ctx: Context) -> None:
    if first(graph, "Relu") is not None and not any("made" in value.name for value in graph.values()):
        ctx.rewriter.insert("Identity", [graph.inputs[0]], graph=graph, outputs=[f"made{next(CALLS)}"])


def random_nodes_are_folded(graph: Graph, ctx: Context) -> None:
    node = first(graph, "RandomNormal", "RandomUniform")
    if node is not None:
        ctx.rewriter.replace_by_constant(node.outputs[0], tensor(np.zeros((2, 3), np.float32)))
        ctx.rewriter.erase(node)


def dead_random_nodes_are_removed(graph: Graph, ctx: Context) -> None:
    for node in graph.nodes_reversed:
        if all(value.is_dead for value in node.outputs):
            ctx.rewriter.erase(node)


def unknown_nodes_are_merged(graph: Graph, ctx: Context) -> None:
    seen: dict[tuple[object, ...], Node] = {}
    for node in graph.nodes:
        twin = seen.setdefault((node.op_type, node.inputs), node)
        if node.op_type == "Mystery" and twin is not node:
            ctx.rewriter.replace(node.outputs[0], twin.outputs[0])
            ctx.rewriter.erase(node)


def result_is_not_valid(graph: Graph, ctx: Context) -> None:
    node = first(graph, "Relu")
    if node is not None:
        ctx.rewriter.set_attribute(node, "slope", 1)


def result_cannot_run(graph: Graph, ctx: Context) -> None:
    node = first(graph, "Reshape")
    if node is not None and node.inputs[1] is not None and not node.inputs[1].name.startswith("five"):
        ctx.rewriter.set_input(node, 1, ctx.rewriter.constant(graph, tensor([5, 5, 5, 5, 5]), "five"))


def writes_past_the_rewriter(graph: Graph, ctx: Context) -> None:
    for value in graph.initializers:
        value._name = f"{value.name.removesuffix('_')}_"


def unlinks_past_the_rewriter(graph: Graph, ctx: Context) -> None:
    for node in graph.nodes:
        node._inputs.clear()


def fails(graph: Graph, ctx: Context) -> None:
    raise KeyError("axis")


def an_initializer_of_a_branch_is_lost(graph: Graph, ctx: Context) -> None:
    """What no node of the main graph reads goes, though a branch may read it."""
    for value in list(graph.initializers):
        if value.uses and all(isinstance(use.user, Node) and use.user.graph is not graph for use in value.uses):
            ctx.rewriter.set_ir_version(ctx.model.ir_version)
            del graph._initializers[value]


def breaks_the_graph(graph: Graph, ctx: Context) -> None:
    ctx.rewriter.set_ir_version(9)
    graph.inputs[0]._name = "other"


WRONG = {
    numbers_change: "not equal to the bit",
    attribute_is_dropped: "not equal to the bit|refuses the result",
    relus_are_lost: "not equal to the bit",
    output_is_dropped: "the inputs or outputs of the model changed",
    input_is_renamed: "the inputs or outputs of the model changed",
    output_type_is_changed: "the inputs or outputs of the model changed",
    grows_at_every_run: "changes its own result",
    edits_for_nothing: "changes its own result",
    names_come_from_a_counter: "gave other bytes",
    random_nodes_are_folded: "random and unknown nodes were",
    dead_random_nodes_are_removed: "random and unknown nodes were",
    unknown_nodes_are_merged: "random and unknown nodes were",
    result_is_not_valid: "the result is not valid: Unrecognized attribute: slope",
    writes_past_the_rewriter: "was renamed past the rewriter",
    unlinks_past_the_rewriter: "was changed past the rewriter",
    fails: "pass 'fails' failed: KeyError: 'axis'",
    an_initializer_of_a_branch_is_lost: "failed: VerifyError|past the rewriter",
    breaks_the_graph: "failed: VerifyError",
}


@pytest.mark.usefixtures("_unshrunk")
@pytest.mark.parametrize("rewrite", WRONG, ids=lambda rewrite: rewrite.__name__)
def test_a_wrong_pass_is_caught(rewrite: Callable[[Graph, Context], None]) -> None:
    with pytest.raises(BrokenPromiseError, match=WRONG[rewrite]):
        check_pass(wrong(rewrite), backend=OrtBackend(), max_examples=EXAMPLES)


@pytest.mark.usefixtures("_unshrunk")
def test_a_result_that_is_valid_must_run() -> None:
    model = model_of("g (float[n] x) => (int64 y) <int64[1] s = {-1}> { r = Reshape(x, s) y = Size(r) }")
    with pytest.raises(BrokenPromiseError, match="refuses the result"):
        check_pass(wrong(result_cannot_run), models=st.just(model), max_examples=EXAMPLES)


@pytest.mark.usefixtures("_unshrunk")
def test_the_sign_of_a_zero_counts() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    with pytest.raises(BrokenPromiseError, match="not equal to the bit"):
        check_pass(wrong(negative_zero_is_lost), models=st.just(model), max_examples=EXAMPLES)


def test_a_right_pass_is_let_through() -> None:
    checked = check_pass(Nothing, models=models(), max_examples=20)
    assert (checked.examples, checked.changed) == (20, 0)
    assert checked.compared > 20


# ---- effects, bounds, and ways to name a pass


@dataclass(frozen=True)
class Halve(Nothing):
    """Change weights, within a bound that the test states."""

    name: ClassVar[str] = "halve"
    effect: ClassVar[Effect] = Effect.LOSSY

    def run(self, graph: Graph, ctx: Context) -> None:
        numbers_change(graph, ctx)


def test_a_lossy_pass_is_judged_by_its_bound() -> None:
    trials: list[Trial] = []

    def bound(trial: Trial) -> float:
        trials.append(trial)
        return 0.5

    checked = check_pass(Halve, bound=bound, max_examples=20)
    assert len(trials) == checked.compared > 0
    assert {trial.backend.name.split()[0] for trial in trials} == {"onnx", "onnxruntime"}
    assert all(trial.report.changed == (trial.before != trial.after) for trial in trials)


@pytest.mark.usefixtures("_unshrunk")
@pytest.mark.parametrize("ratio", [1.01, float("inf"), float("nan")])
def test_an_error_over_its_bound_is_caught(ratio: float) -> None:
    with pytest.raises(BrokenPromiseError, match=f"an error is {ratio} times its bound"):
        check_pass(Halve, bound=lambda trial: ratio, backend=OrtBackend(), max_examples=5)


@pytest.mark.usefixtures("_unshrunk")
def test_a_lossy_pass_that_reports_no_bound_is_caught() -> None:
    with pytest.raises(BrokenPromiseError, match="and the pass reports no bound for it"):
        check_pass(Halve, max_examples=EXAMPLES)


def test_a_learned_pass_promises_no_numbers() -> None:
    @dataclass(frozen=True)
    class Learn(Halve):
        effect: ClassVar[Effect] = Effect.LEARNED

    assert check_pass(Learn, max_examples=20).changed > 0


def test_options_can_be_drawn_and_instances_given() -> None:
    assert check_pass(Dce(), max_examples=5).examples == 5
    folds = st.builds(Fold, st.just(0))
    assert check_pass(folds, max_examples=5).examples == 5


@dataclass(frozen=True)
class Picky(Nothing):
    """Accept some options alone."""

    name: ClassVar[str] = "picky"

    kind: Literal["a", "b"] = option("a", "which")
    share: float = option(0.5, "how much", low=0, high=1)
    count: int = option(3, "how often", low=1)
    most: int | None = option(None, "at most", low=2, high=4)
    size: Size = option(1000, "bytes", low=0)
    deep: bool = option(False, "whether")
    names: tuple[str, ...] = option((), "names in a model")
    free: float | None = option(None, "anything")

    def __post_init__(self) -> None:
        if self.deep and self.kind == "b":
            raise UserError("deep is for a alone")


def test_options_of_a_class_are_drawn_from_their_annotations() -> None:
    seen: list[Picky] = []

    @settings(max_examples=200, phases=[Phase.generate])
    @given(passes(Picky))
    def draw(pass_: Pass) -> None:
        assert isinstance(pass_, Picky)
        seen.append(pass_)

    draw()
    assert {(one.kind, one.deep) for one in seen} == {("a", False), ("a", True), ("b", False)}
    assert {one.most for one in seen} == {None, 2, 3, 4}
    assert {one.count for one in seen} == set(range(1, 10))
    assert all(0 <= one.share <= 1 and 0 <= one.size <= 2000 for one in seen)
    assert len({one.share for one in seen}) > 10
    assert {(one.names, one.free) for one in seen} == {((), None)}


def test_a_pass_that_refuses_every_model_is_not_called_checked() -> None:
    def refuses(graph: Graph, ctx: Context) -> None:
        raise UserError("give me what is not there")

    with pytest.raises(BrokenPromiseError, match="nothing was checked: the pass refused every drawn model"):
        check_pass(wrong(refuses), max_examples=5)


@dataclass(frozen=True)
class Refuses:
    """An executor that runs nothing."""

    name: str = "refuses"

    def prepare(
        self, model: Model, *, outputs: Sequence[str] | None = None, optimize: bool = False, threads: int = 1
    ) -> Session:
        raise ExecutionError("no")


def test_what_was_never_run_is_not_called_checked() -> None:
    with pytest.raises(BrokenPromiseError, match="nothing was checked"):
        check_pass(Nothing, backend=Refuses(), max_examples=5)
