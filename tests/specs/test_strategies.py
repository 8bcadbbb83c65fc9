"""The strategies draw what they promise: valid models of every kind, nearly all of which run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, checker, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, lower
from onnxpress.specs import feeds, impure_nodes, model_of, models
from onnxpress.specs.bits import differing, same_bits

ANY = st.booleans().flatmap(lambda impure: models(impure=impure))


def nodes_of(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies_of(node):
            yield from nodes_of(body)


def bodies_of(node: NodeProto) -> list[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for body in bodies_of(node):
            yield from graphs_of(body)


def has(op_type: str, **attributes: int) -> Callable[[ModelProto], bool]:
    return lambda model: any(
        node.op_type == op_type and attributes.items() <= {a.name: a.i for a in node.attribute}.items()
        for node in nodes_of(model.graph)
    )


def constant_form(name: str) -> Callable[[ModelProto], bool]:
    return lambda model: any(
        node.op_type == "Constant" and node.attribute[0].name == name for node in nodes_of(model.graph)
    )


def captures_what_only_it_reads(model: ModelProto) -> bool:
    made = {name for node in model.graph.node for name in node.output}
    read = {name for node in model.graph.node for name in node.input} | {info.name for info in model.graph.output}
    inner = {name for node in model.graph.node for body in bodies_of(node) for n in nodes_of(body) for name in n.input}
    return bool(made & inner - read)


def siblings_share_names(model: ModelProto) -> bool:
    branches = [bodies_of(node) for node in model.graph.node if node.op_type == "If"]
    names = [[{name for node in body.node for name in node.output} for body in pair] for pair in branches]
    return any(set.intersection(*pair) for pair in names)


def constant_depth(model: ModelProto, depth: int) -> bool:
    """Whether some value is `depth` nodes away from the constants that alone it depends on."""
    depths = {tensor.name: 0 for tensor in model.graph.initializer}
    for info in model.graph.input:
        depths.pop(info.name, None)
    for node in model.graph.node:
        if node.op_type == "Constant":
            depths |= dict.fromkeys(node.output, 0)
        elif node.input and not bodies_of(node) and all(name in depths for name in node.input):
            depths |= dict.fromkeys(node.output, 1 + max(depths[name] for name in node.input))
    return max(depths.values(), default=0) >= depth


def follows(model: ModelProto, first: str, second: str) -> bool:
    """Whether a node of one operator reads what one of another gives, both in the main graph."""
    made = {name for node in model.graph.node if node.op_type == first for name in node.output}
    return any(node.op_type == second and made.intersection(node.input) for node in model.graph.node)


def repeats(items: Iterable[object]) -> bool:
    return any(count > 1 for count in Counter(items).values())


def contents(graph: GraphProto) -> list[bytes]:
    """The elements of the constants of a graph that have a shape."""
    held = [*graph.initializer, *(a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute)]
    return [reads(t).tobytes() for t in held if t.data_type == TensorProto.FLOAT and len(t.dims) and 0 not in t.dims]


def equal_constants_around(model: ModelProto) -> bool:
    outer, *inner = (set(contents(graph)) for graph in graphs_of(model.graph))
    return any(outer & one for one in inner)


def reads_constant(model: ModelProto, op_type: str, slot: int) -> bool:
    constants = {tensor.name for tensor in model.graph.initializer} - {info.name for info in model.graph.input}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    return any(node.op_type == op_type and node.input[slot] in constants for node in model.graph.node)


def dense_tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    yield from (a.t for node in nodes_of(model.graph) for a in node.attribute if a.HasField("t"))


def reads(tensor: TensorProto) -> np.ndarray:
    return numpy_helper.to_array(tensor)


KINDS: dict[str, Callable[[ModelProto], bool]] = {
    "If": has("If"),
    "Loop": has("Loop"),
    "Scan": has("Scan"),
    "bodies in bodies": lambda m: any(bodies_of(n) for g in list(graphs_of(m.graph))[1:] for n in g.node),
    "initializers in bodies": lambda m: any(g.initializer for g in list(graphs_of(m.graph))[1:]),
    "a value read in a branch alone": captures_what_only_it_reads,
    "names shared by two branches": siblings_share_names,
    "functions": lambda m: len(m.functions) > 1,
    "functions in functions": lambda m: any(n.domain == "local" for f in m.functions for n in f.node),
    "attributes of functions": lambda m: any(a.ref_attr_name for f in m.functions for n in f.node for a in n.attribute),
    "functions of another opset": lambda m: any(
        f.opset_import[0].version != m.opset_import[0].version for f in m.functions
    ),
    "Constant: value": constant_form("value"),
    "Constant: value_float": constant_form("value_float"),
    "Constant: value_floats": constant_form("value_floats"),
    "Constant: value_int": constant_form("value_int"),
    "Constant: value_ints": constant_form("value_ints"),
    "Constant: sparse_value": constant_form("sparse_value"),
    "sparse initializers": lambda m: bool(m.graph.sparse_initializer),
    "IR version 3": lambda m: m.ir_version == 3,
    "some defaults of inputs": lambda m: (
        m.ir_version > 3 and bool({i.name for i in m.graph.input} & {t.name for t in m.graph.initializer})
    ),
    "NaN": lambda m: any(t.data_type == 1 and np.isnan(reads(t)).any() for t in m.graph.initializer),
    "empty tensors": lambda m: any(0 in t.dims for t in dense_tensors(m)),
    "scalars": lambda m: any(not t.dims for t in dense_tensors(m)),
    "strings": lambda m: any(t.data_type == TensorProto.STRING for t in dense_tensors(m)),
    "narrow types": lambda m: any(
        t.data_type in (TensorProto.INT4, TensorProto.UINT4, TensorProto.BFLOAT16) for t in dense_tensors(m)
    ),
    "typed data": lambda m: any(t.float_data for t in dense_tensors(m)),
    "an input given out": lambda m: any(
        n.op_type == "Identity" and n.input[0] in {i.name for i in m.graph.input} for n in m.graph.node
    ),
    "an initializer given out": lambda m: bool(
        {o.name for o in m.graph.output} & {t.name for t in m.graph.initializer}
    ),
    "an output used inside": lambda m: bool(
        {o.name for o in m.graph.output} & {name for n in m.graph.node for name in n.input}
    ),
    "an unused input": lambda m: not {m.graph.input[0].name} & {name for n in nodes_of(m.graph) for name in n.input},
    "value_info": lambda m: bool(m.graph.value_info),
    "omitted outputs": lambda m: any("" in n.output for n in nodes_of(m.graph)),
    "omitted inputs": lambda m: any("" in n.input for n in nodes_of(m.graph)),
    "omitted outputs and inputs": lambda m: (
        any("" in n.output for n in nodes_of(m.graph)) and any("" in n.input for n in nodes_of(m.graph))
    ),
    "sequences": has("SequenceConstruct"),
    "constant regions of three steps": lambda m: constant_depth(m, 3),
    "the other name of the standard domain": lambda m: m.opset_import[0].domain == "ai.onnx",
    "opset 7": lambda m: m.opset_import[0].version == 7,
    "opset 8": lambda m: m.opset_import[0].version == 8,
    "opset 24": lambda m: m.opset_import[0].version == 24,
    "a convolution that is normalized": lambda m: follows(m, "Conv", "BatchNormalization"),
    "a product that is scaled": lambda m: follows(m, "MatMul", "Mul"),
    "a linear layer that is shifted": lambda m: follows(m, "Gemm", "Add"),
    "a normalization spelled out": lambda m: follows(m, "Sqrt", "Div"),
    "GELU spelled out": lambda m: follows(m, "Div", "Erf"),
    "SiLU spelled out": lambda m: follows(m, "Sigmoid", "Mul"),
    "Transpose and back": lambda m: follows(m, "Transpose", "Transpose"),
    "Unsqueeze and back": lambda m: follows(m, "Unsqueeze", "Squeeze"),
    "Cast and back": lambda m: follows(m, "Cast", "Cast"),
    "Identity twice": lambda m: follows(m, "Identity", "Identity"),
    "Pad": has("Pad"),
    "the same node twice": lambda m: repeats((n.op_type, *n.input) for n in m.graph.node if n.op_type == "Exp"),
    "equal constants": lambda m: repeats(contents(m.graph)),
    "equal constants in a body and around it": equal_constants_around,
    "a function called twice": lambda m: repeats(n.op_type for n in m.graph.node if n.domain == "local"),
    "If of a constant": lambda m: reads_constant(m, "If", 0),
    "Loop of constant length": lambda m: reads_constant(m, "Loop", 0),
    "If in If": lambda m: any(
        inner.op_type == "If" for n in m.graph.node if n.op_type == "If" for g in bodies_of(n) for inner in g.node
    ),
    "RandomNormal": has("RandomNormal"),
    "Bernoulli": has("Bernoulli"),
    "Multinomial": has("Multinomial"),
    "Dropout in training": lambda m: impure_nodes(m)["::Dropout"] > 0,
    "an unknown operator": lambda m: any(n.domain == "example.unknown" for n in nodes_of(m.graph)),
}


@pytest.fixture(scope="module")
def drawn() -> list[ModelProto]:
    """The same eight hundred models every time."""
    found: list[ModelProto] = []

    @settings(max_examples=800, phases=[Phase.generate], derandomize=True, database=None)
    @given(ANY)
    def draw(proto: ModelProto) -> None:
        found.append(proto)

    draw()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_every_kind_are_drawn(kind: str, drawn: list[ModelProto]) -> None:
    assert any(map(KINDS[kind], drawn))


@given(ANY)
def test_drawn_models_are_valid(proto: ModelProto) -> None:
    checker.check_model(proto, full_check=not proto.graph.sparse_initializer)


def test_nearly_all_models_run() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=300, phases=[Phase.generate])
    @given(models().flatmap(lambda model: st.tuples(st.just(model), feeds(model))))
    def run(drawn: tuple[ModelProto, dict[str, object]]) -> None:
        proto, feed = drawn
        runs = [_runs(backend, proto, feed) for backend in (OrtBackend(), ReferenceBackend())]
        seen.update(drawn=1, onnxruntime=runs[0], either=any(runs))

    run()
    assert seen["either"] >= 0.97 * seen["drawn"]
    assert seen["onnxruntime"] >= 0.9 * seen["drawn"]


def _runs(backend: Backend, proto: ModelProto, feed: dict[str, object]) -> bool:
    try:
        backend.prepare(lower(proto)).run(feed)
    except ExecutionError:
        return False
    return True


@pytest.mark.parametrize("off", ["bodies", "functions"])
def test_what_is_switched_off_is_not_drawn(off: str) -> None:
    @given(models(**{off: False}))  # type: ignore[arg-type]
    def draws(proto: ModelProto) -> None:
        if off == "functions":
            assert not proto.functions
        else:
            assert all(not bodies_of(node) for node in nodes_of(proto.graph))

    draws()


@given(models(opsets=(13, 14)))
def test_the_window_of_opsets_is_kept(proto: ModelProto) -> None:
    assert proto.opset_import[0].version in (13, 14)


@given(models())
def test_models_without_impure_blocks_have_no_impure_nodes(proto: ModelProto) -> None:
    assert not impure_nodes(proto)


def test_a_failing_model_shrinks_to_few_nodes() -> None:
    smallest = find(models(), has("MatMul"), settings=settings(max_examples=2000))
    assert len(smallest.graph.node) <= 3


@given(st.data())
def test_a_feed_fits_the_inputs(data: st.DataObject) -> None:
    proto = data.draw(models())
    feed = data.draw(feeds(proto))
    sizes: dict[str, int] = {}
    defaults = {tensor.name for tensor in proto.graph.initializer}
    for info in proto.graph.input:
        if info.name not in feed:
            assert info.name in defaults
            continue
        dims = info.type.tensor_type.shape.dim
        for dim, size in zip(dims, feed[info.name].shape, strict=True):
            expected = dim.dim_value if dim.HasField("dim_value") else sizes.setdefault(dim.dim_param, size)
            assert size == expected
    assert feed.keys() <= {info.name for info in proto.graph.input}


# ---- the oracles


def test_calls_of_a_function_count_what_is_impure_in_it() -> None:
    proto = model_of("""
        g (float[2] x) => (float[2] y) { a = local.f(x) b = local.f(a) y = local.g(b) }
        <domain: "local", opset_import: ["" : 17]> f (u) => (v) { w = RandomNormalLike(u) v = Bernoulli(w) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]> g (u) => (v) { v = local.f(u) }
        <domain: "local", opset_import: ["" : 17]> h (u) => (v) { v = RandomNormalLike(u) }""")
    assert impure_nodes(proto) == {"::RandomNormalLike": 3, "::Bernoulli": 3}


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (np.float32([1, np.nan]), np.float32([1, np.nan]), True),
        (np.float32([0.0]), np.float32([-0.0]), False),
        (np.float32([1]), np.float32([np.nextafter(np.float32(1), np.float32(2))]), False),
        (np.float32([1]), np.float64([1]), False),
        (np.float32([1]), np.float32([[1]]), False),
        (np.float32([np.nan]), np.float32([1]), False),
        (np.array(["a", "b"], object), np.array(["a", "b"], object), True),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), False),
        ([np.int64([1])], [np.int64([1])], True),
        ([np.int64([1])], [np.int64([1]), np.int64([1])], False),
        ([np.int64([1])], np.int64([1]), False),
        (None, None, True),
        (None, np.int64([1]), False),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), True),
    ],
)
def test_equality_to_the_bit(a: object, b: object, same: bool) -> None:
    assert same_bits(a, b) is same
    assert same_bits(b, a) is same
    assert differing({"y": a}, {"y": b}) == ([] if same else ["y"])


def test_a_missing_output_differs() -> None:
    assert differing({"y": np.int64([1])}, {}) == ["y"]
