"""Reduction: what shows a condition is found in every place, and what is found shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Model, emit, lower
from onnxpress.passes.debug.ddmin import ddmin, window
from onnxpress.passes.debug.inputs import inputs_npz
from onnxpress.passes.debug.lab import Feeds
from onnxpress.passes.debug.reduce import Plan, Reduction, reduce_model
from onnxpress.passes.debug.synthetic import synthetic
from onnxpress.passes.manager.context import Silent
from onnxpress.specs import model_of

BACKEND = OrtBackend()
SIZES = st.integers(1, 40)


def reduced(model: Model, feeds: Feeds, holds: object, plan: Plan | None = None) -> Reduction:
    found = reduce_model(model, feeds, holds, BACKEND, Silent(), plan)  # type: ignore[arg-type]
    assert found is not None
    return found


def operators(model: Model) -> list[str]:
    return [node.op_type for graph in model.walk_graphs() for node in graph.nodes]


def has(*op_types: str) -> object:
    return lambda model, feeds: set(op_types) <= set(operators(model))


@given(st.data())
def test_delta_debugging_finds_exactly_what_matters(data: st.DataObject) -> None:
    items = list(range(data.draw(SIZES)))
    needed = data.draw(st.sets(st.sampled_from(items), min_size=1))
    assert ddmin(items, lambda part: needed <= set(part)) == sorted(needed)


@given(st.data())
def test_of_what_delta_debugging_leaves_nothing_can_go(data: st.DataObject) -> None:
    items = list(range(data.draw(SIZES)))
    subsets = st.sets(st.sampled_from(items), min_size=1)
    causes = data.draw(st.lists(subsets, min_size=1, max_size=4))

    def shows(part: Sequence[int]) -> bool:
        return any(cause <= set(part) for cause in causes)

    found = ddmin(items, shows)
    assert shows(found)
    assert not any(shows([item for item in found if item != left]) for left in found if len(found) > 1)


@given(st.data())
def test_a_window_reaches_from_the_first_to_the_last_that_matters_in_few_trials(data: st.DataObject) -> None:
    items = list(range(data.draw(st.integers(1, 1000))))
    needed = data.draw(st.sets(st.sampled_from(items), min_size=1, max_size=5))
    trials = 0

    def shows(part: Sequence[int]) -> bool:
        nonlocal trials
        trials += 1
        return needed <= set(part)

    assert window(items, shows) == list(range(min(needed), max(needed) + 1))
    assert trials <= 2 * len(items).bit_length()


def chain(count: int, at: int) -> Model:
    lines = [f"v{i + 1} = {'Sin' if i == at else 'Abs'}(v{i})" for i in range(count)]
    return lower(model_of(f"g (float[2] v0) => (float[2] v{count}) {{ {' '.join(lines)} }}"))


@pytest.mark.parametrize("at", [0, 250, 499])
def test_500_nodes_take_a_few_dozen_trials(at: int) -> None:
    model = chain(500, at)
    before = emit(model).SerializeToString()
    found = reduced(model, (), has("Sin"))
    assert (found.nodes, found.nodes_before, operators(found.model)) == (1, 500, ["Sin"])
    assert found.trials < 40
    assert emit(model).SerializeToString() == before


def test_a_slice_is_fed_what_the_whole_model_computes_there() -> None:
    x = np.float32([-2, 3])
    found = reduced(chain(20, 10), ({"v0": x},), has("Sin"))
    (feed,) = found.feeds
    assert {name: list(value) for name, value in feed.items()} == {"v10": [2, 3]}


def test_the_search_begins_around_suspects() -> None:
    model = chain(500, 250)
    suspects = [node for node in model.graph.nodes if node.op_type == "Sin"]
    assert reduced(model, (), has("Sin"), Plan(suspects=suspects)).trials < 5


def test_one_of_several_outputs_and_one_of_several_feeds_are_enough() -> None:
    text = "g (float[2] x) => (float[2] a, float[2] b, float[2] c) { a = Abs(x) b = Sin(x) c, d = Split(x) }"
    feeds = tuple({"x": np.float32([k, k])} for k in (1, 2, 3))

    def holds(model: Model, given: Feeds) -> bool:
        return "Split" in operators(model) and any(feed["x"][0] == 2 for feed in given)

    found = reduced(lower(model_of(text)), feeds, holds)
    assert operators(found.model) == ["Split"]
    assert [feed["x"][0] for feed in found.feeds] == [2]
    assert len(found.model.graph.outputs) == 1


BRANCHES = """
    g (bool c, float[2] x) => (float[2] y) {
        a = Neg(x)
        y = If(c) <then_branch = t () => (float[2] p) { r = Exp(a) s = Sin(r) p = Abs(s) },
                   else_branch = e () => (float[2] q) { q = Abs(a) }>
    }"""


def test_a_branch_takes_the_place_of_the_model() -> None:
    feed = {"c": np.array(True), "x": np.float32([0, 1])}
    found = reduced(lower(model_of(BRANCHES)), (feed,), has("Sin"))
    assert operators(found.model) == ["Sin"]
    (fed,) = found.feeds
    assert np.allclose(fed["r"], np.exp([0, -1]))


def test_the_body_of_a_loop_is_fed_its_first_iteration() -> None:
    text = """
        g (float[2] x, float[2] s) => (float[2] y) {
            n = Constant <value = int64 {3}> ()
            t = Constant <value = bool {1}> ()
            a = Neg(x)
            y = Loop(n, t, a) <body = b (int64 i, bool go, float[2] state) => (bool on, float[2] next) {
                on = Identity(go)
                wave = Sin(state)
                next = Add(wave, s)
            }>
        }"""
    feed = {"x": np.float32([1, 2]), "s": np.float32([5, 5])}
    found = reduced(lower(model_of(text)), (feed,), has("Sin", "Add"))
    assert operators(found.model) == ["Sin", "Add"]
    (fed,) = found.feeds
    assert {name: list(value) for name, value in fed.items()} == {"state": [-1, -2], "s": [5, 5]}


def test_a_lone_constant_is_found() -> None:
    text = "g (float[1] x) => (float[1] y) { k = Constant <value = float[1] {3}> () a = Add(x, k) y = Abs(a) }"
    assert operators(reduced(lower(model_of(text)), (), has("Constant")).model) == ["Constant"]


def test_the_limit_of_trials_ends_the_search_with_the_best_so_far() -> None:
    found = reduced(chain(500, 250), (), has("Sin"), Plan(trials=5))
    assert (found.trials, found.stopped) == (5, "after 5 trials")
    assert 1 < found.nodes < 500
    assert "Sin" in operators(found.model)


def test_an_interruption_ends_the_search_with_the_best_so_far() -> None:
    calls = 0

    def holds(model: Model, feeds: Feeds) -> bool:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return "Sin" in operators(model)

    found = reduced(chain(500, 250), (), holds)
    assert found.stopped == "interrupted"
    assert 1 < found.nodes < 500


def test_what_does_not_hold_is_not_reduced() -> None:
    assert reduce_model(chain(3, 1), (), lambda model, feeds: False, BACKEND, Silent()) is None


def test_it_does_the_same_every_time() -> None:
    def run() -> tuple[list[int], bytes]:
        sizes: list[int] = []

        def holds(model: Model, feeds: Feeds) -> bool:
            sizes.append(len(model.graph))
            return operators(model).count("Abs") >= 7

        found = reduced(chain(60, 30), (), holds, Plan(synthetic=True))
        return sizes, emit(found.model).SerializeToString(deterministic=True)

    assert run() == run()


def weighty(*names: str) -> Model:
    weights = [
        numpy_helper.from_array(np.random.default_rng(k).normal(3, 0.1, (16, 16)).astype(np.float32), name)
        for k, name in enumerate(names)
    ]
    lines = [f"v{k + 1} = MatMul(v{k}, {name})" for k, name in enumerate(names)]
    proto = model_of(
        f"g (float[2,16] v0, float[16,16] {', float[16,16] '.join(names)}) => (float[2,16] v{len(names)}) "
        f"{{ {' '.join(lines)} }}"
    )
    del proto.graph.input[1:]
    proto.graph.initializer.extend(weights)
    return lower(proto)


def test_weights_become_synthetic_unless_the_condition_takes_them() -> None:
    model = weighty("a", "b", "c")
    kept = {value.name: value.tensor.numpy() for value in model.graph.initializers if value.tensor is not None}

    def holds(slice_: Model, feeds: Feeds) -> bool:
        held = {v.name: v.tensor.numpy() for v in slice_.graph.initializers if v.tensor is not None}
        return len(held) == 3 and np.array_equal(held["b"], kept["b"])

    found = reduced(model, (), holds, Plan(synthetic=True))
    assert (found.synthetic_weights, found.real_weights) == (2, 1)
    for value in found.model.graph.initializers:
        assert value.tensor is not None
        made = value.tensor.numpy()
        assert np.array_equal(made, kept[value.name]) == (value.name == "b")
        assert (made.dtype, made.shape) == (np.float32, (16, 16))
        assert 2.9 < made.mean() < 3.1
    assert all(np.array_equal(v.tensor.numpy(), kept[v.name]) for v in model.graph.initializers if v.tensor is not None)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint64", "int64", "bool", "complex64", "bfloat16"])
def test_synthetic_numbers_keep_type_shape_and_range(dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    high = 2**64 - 1 if dtype == "uint64" else 100
    array = np.array([[0, high], [1, 7]], dtype=object).astype(kind)
    made = synthetic(array, np.random.default_rng(0))
    assert (made.dtype, made.shape) == (array.dtype, array.shape)
    assert array.real.min() <= made.real.min()
    assert made.real.max() <= array.real.max()
    assert np.array_equal(made, synthetic(array, np.random.default_rng(0)))


def test_inputs_read_back_as_data(tmp_path: Path) -> None:
    import onnxpress as op
    from onnxpress.api import samples_for
    from onnxpress.backends.interface import Pins

    model = lower(model_of("g (float[n,2] x, string s) => (float[n,2] y) { y = Abs(x) }"))
    feeds = tuple({"x": np.ones((n, 2), np.float32), "s": np.array(f"word{n}", object)} for n in (1, 3))
    path = tmp_path / "inputs.npz"
    path.write_bytes(inputs_npz(feeds) or b"")
    read = list(samples_for(model, str(path), BACKEND, Pins(), 0))
    assert [(feed["x"].shape, feed["s"].item()) for feed in read] == [((1, 2), "word1"), ((3, 2), "word3")]
    assert inputs_npz(({"x": [np.ones(2)]},)) is None
    assert inputs_npz(()) is None
    assert op.load(emit(model)) is not None


def test_a_reduced_model_with_external_weights_is_saved_on_its_own(cli, tmp_path: Path, scales: Path) -> None:
    inside = onnx.load(scales)
    big = np.random.default_rng(0).uniform(0.9, 1.1, (512, 16)).astype(np.float32)
    inside.graph.initializer.append(numpy_helper.from_array(big, "unread"))
    folder = tmp_path / "there"
    folder.mkdir()
    onnx.save(inside, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=16)
    out = tmp_path / "small.onnx"
    assert cli("reduce", folder / "m.onnx", "-p", "harm", "--when", "rel-l2>0.1", "-o", out).code == 0
    for file in folder.iterdir():
        file.unlink()
    assert [node.name for node in onnx.load(out).graph.node] == ["scale0"]
    assert cli("run", out, "-p", "dce", "--data", out.with_suffix(".npz")).code == 0
