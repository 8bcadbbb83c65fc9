import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, TypeProto, helper, parser

from onnxpress.backends.domains import FLAG, SIZE, Choice, Index, integer_domains
from onnxpress.backends.generate import generate_feeds
from onnxpress.backends.interface import Pins
from onnxpress.backends.sizes import SizeSearch, resolve
from onnxpress.errors import ExecutionError, UserError
from onnxpress.ir.backend import Port


def model(text, opset=17):
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}')


class Runtime:
    """onnxruntime behind the Session protocol."""

    def __init__(self, proto):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        defaults = {tensor.name for tensor in proto.graph.initializer}
        self.inputs = tuple(port(info, info.name in defaults) for info in proto.graph.input)
        self.outputs = tuple(port(info, False) for info in proto.graph.output)

    def run(self, feeds):
        try:
            values = self.session.run(None, dict(feeds))
        except Exception as error:
            raise ExecutionError(str(error)) from error
        return dict(zip([output.name for output in self.outputs], values, strict=True))


def port(info, optional):
    if not info.type.HasField("tensor_type"):
        return Port(info.name, None, None, optional)
    kind = info.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    return Port(info.name, kind.elem_type, dims if kind.HasField("shape") else None, optional)


def generated(proto, n=4, seed=0, pins=None):
    session = Runtime(proto)
    found = generate_feeds(proto, session, n=n, seed=seed, pins=pins or Pins())
    for feed in found.feeds:
        session.run(feed)
    return found


def shapes(found, name):
    return [feed[name].shape for feed in found.feeds]


def domains(text, *names, opset=17):
    return integer_domains(model(text, opset), names)


TABLE = "float[7, 2] t"

# What the integers may be, read off the graph.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Gather(t, i)", Index(7)),
        ("y = Gather <axis = 1> (t, i)", Index(2)),
        ("y = Gather <axis = -2> (t, i)", Index(7)),
        (
            "a = Cast <to = 6> (i)  s = Constant <value_ints = [-1, 1]> ()  b = Reshape(a, s)  y = GatherND(t, b)",
            Index(2),
        ),
        ("o = Constant <value_int = 3> ()  j = Add(i, o)  y = Gather(t, j)", Index(7, -3)),
        ("o = Constant <value_int = 3> ()  j = Sub(i, o)  y = Gather(t, j)", Index(7, 3)),
        ("u = Identity(t)  w = Transpose(u)  j = Concat <axis = 0> (i, i)  y = Gather(w, j)", Index(2)),
        ("o = Constant <value_int = 5> ()  y = Equal(i, o)", Choice((5, 6))),
        ("o = Constant <value_ints = [5, 8]> ()  y = Equal(o, i)", Choice((5, 8, 9))),
        ("o = Constant <value_int = 1> ()  y = Sub(o, i)", FLAG),
        ("y = Cast <to = 9> (i)", FLAG),
        ("y = Expand(t, i)", SIZE),
        ("y = Pad(t, i)", SIZE),
        ("y = Cast <to = 1> (i)", None),
        ("y = Mul(i, i)", None),
    ],
)
def test_domains_of_integer_inputs(body, expected):
    text = f"(int64[n] i) => (float[m] y) <{TABLE} = {{{', '.join(['0'] * 14)}}}> {{ {body} }}"
    assert domains(text, "i")["i"] == (() if expected is None else (expected,))


def test_an_index_outweighs_all_else_and_all_tables_count():
    text = (
        "(int64[n] i, float[5, 2] a, float[n, 3] b) => (float[m] y) "
        "{ o = Constant <value_int = 1> ()  e = Equal(i, o)  f = Sub(o, i)"
        "  y = Gather(a, i)  z = Gather(b, i)  q = MatMul(b, b)  r = Gather(q, i) }"
    )
    assert domains(text, "i")["i"] == (Index(5), Index("n"))


def test_large_tables_are_known_by_their_dims_alone():
    proto = model(
        "(int64[n] i) => (bool[n, 300] y) { a = Constant <value_ints = [1]> ()  k = Unsqueeze(i, a)  y = Equal(k, t) }"
    )
    tensor = TensorProto(name="t", data_type=TensorProto.INT64, dims=[300], data_location=TensorProto.EXTERNAL)
    proto.graph.initializer.append(tensor)
    assert integer_domains(proto, ["i"])["i"] == (Index(300),)


def test_a_table_that_is_an_input_with_unnamed_axes():
    found = domains("(int64[n] i, float[?, 2] a) => (float[m] y) { y = Gather(a, i) }", "i")
    assert found["i"] == (Index(("a", 0)),)


def nested(op, body, outputs=("y",), **io):
    """A model whose single node has one subgraph, which sees the outer names."""
    graph = parser.parse_graph(f"b {body}")
    names = {"If": ("then_branch", "else_branch"), "Loop": ("body",)}[op]
    node = helper.make_node(op, io["inputs"], outputs, **dict.fromkeys(names, graph))
    outer = [helper.make_tensor_value_info(n, t, s) for n, t, s in io["ports"]]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_model(
        helper.make_graph([node], "g", outer, [result]), opset_imports=[helper.make_opsetid("", 17)]
    )


def test_a_constant_that_the_call_of_a_function_gives_is_no_constant():
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]> g (int64[N] x) => (float[N] y) {
        y = local.scaled <alpha: float = 2.0> (x)
    }
    <domain: "local", opset_import: ["": 17]> scaled <alpha> (a) => (b) {
        c = Constant <value_float: float = @alpha> () f = Cast <to = 1> (a) b = Mul (f, c)
    }"""
    proto = parser.parse_model(text)
    assert generate_feeds(proto, Runtime(proto), n=2, seed=0).feeds


def test_values_are_followed_into_branches_loops_and_functions():
    i, t = ("i", TensorProto.INT64, ["n"]), ("t", TensorProto.FLOAT, [7, 2])
    branch = nested(
        "If", "() => (float[n, 2] z) { z = Gather(t, i) }", inputs=["c"], ports=[("c", TensorProto.BOOL, []), i, t]
    )
    assert integer_domains(branch, ["i"])["i"] == (Index(7),)
    loop = nested(
        "Loop",
        "(int64 k, bool c, int64[n] j) => (bool d, int64[n] j2, float[n, 2] z) "
        "{ d = Identity(c)  j2 = Identity(j)  z = Gather(t, j) }",
        outputs=("last", "y"),
        inputs=["m", "", "i"],
        ports=[("m", TensorProto.INT64, []), i, t],
    )
    assert integer_domains(loop, ["i", "m"]) == {"i": (Index(7),), "m": (SIZE,)}
    function = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "f": 1]> g (int64[n] i, float[7, 2] t) => (float[n, 2] y) '
        "{ j = f.same(i)  y = f.look(j, t) } "
        '<domain: "f", opset_import: ["": 17]> same (a) => (b) { b = Identity(a) } '
        '<domain: "f", opset_import: ["": 17]> look (k, w) => (z) { z = Gather(w, k) }'
    )
    assert integer_domains(function, ["i"])["i"] == (Index(7),)


def test_an_index_chosen_by_a_branch_is_followed_out_of_it():
    proto = nested(
        "If",
        "() => (int64[n] z) { z = Identity(i) }",
        outputs=("j",),
        inputs=["c"],
        ports=[("c", TensorProto.BOOL, []), ("i", TensorProto.INT64, ["n"]), ("t", TensorProto.FLOAT, [7, 2])],
    )
    proto.graph.node.append(helper.make_node("Gather", ["t", "j"], ["y"]))
    assert integer_domains(proto, ["i"])["i"] == (Index(7),)


def test_operators_of_other_domains_say_nothing():
    text = (
        '<ir_version: 8, opset_import: ["": 17, "x": 1]> g (int64[n] i) => (float y) { y = x.Gather(i)  z = x.Sub() }'
    )
    assert integer_domains(parser.parse_model(text), ["i"])["i"] == ()


# Which sizes are tried.

SIZES = st.one_of(st.integers(0, 5), st.sampled_from(["n", "h", "n + 2", "past + new"]), st.just(("x", 1)))


@given(st.lists(st.lists(SIZES, max_size=4).map(tuple), min_size=1, max_size=3))
def test_proposed_sizes_are_complete_distinct_and_small(drawn):
    inputs = {f"x{i}": shape for i, shape in enumerate(drawn)}
    search = SizeSearch(inputs, set())
    candidates = list(search.candidates())
    for group in (candidates, [candidates[0], *search.variations(candidates[0])]):
        frozen = [tuple(sorted(sizes.items(), key=str)) for sizes in group]
        assert len(set(frozen)) == len(frozen)
        assert all(min(sizes.values(), default=1) >= 1 for sizes in group)
        assert {tuple(sizes) for sizes in group} == {tuple(candidates[0])}
    assert search.is_free == bool(candidates[0])


def test_a_symbol_that_is_a_sum_follows_from_its_terms():
    sizes = {"past": 5, "new": 2}
    assert [resolve(s, sizes) for s in ("past", "past + new", "past+1", 4)] == [5, 7, 6, 4]


# Feeds that run.


@pytest.mark.parametrize("fixed", [(2, 3), (), (0, 4)])
@pytest.mark.parametrize("dtype", ["float", "double", "float16", "int8", "uint8", "int32", "int64", "bool", "string"])
def test_types_and_fixed_shapes_are_respected(dtype, fixed):
    kind = f"{dtype}{list(fixed) if fixed else ''}"
    found = generated(model(f"({kind} x) => ({kind} y) {{ y = Identity(x) }}"))
    assert shapes(found, "x") == [fixed] * 4


def test_free_sizes_vary_and_shared_symbols_agree():
    found = generated(model("(float[n, k] x, float[k, n] w) => (float[n, n] y) { y = MatMul(x, w) }"), n=8)
    assert found.discarded == 0
    assert len(set(shapes(found, "x"))) >= 3
    assert all(w == x[::-1] for x, w in zip(shapes(found, "x"), shapes(found, "w"), strict=True))


def test_sizes_that_the_model_refuses_are_discarded_and_counted():
    text = "(float[n, c, h] x) => (float[n, m] y) <int64[2] s = {-1, 36}> { y = Reshape(x, s) }"
    found = generated(model(text), n=3)
    assert len(found.feeds) == 3
    assert all(np.prod(shape) % 36 == 0 for shape in shapes(found, "x"))
    assert found.discarded > 0
    assert all("Reshape" in reason for reason in found.reasons)


def test_unnamed_axes_that_must_agree_are_found():
    text = "(float[2, ?, 8] state, float[?, ?] x) => (float[m] y) { a = Constant <value_ints = [0]> () "
    text += " r = ReduceSum <keepdims = 0> (state, a)  s = Transpose(x)  y = MatMul(s, r) }"
    found = generated(model(text), n=4)
    assert len(found.feeds) == 4
    assert all(a[1] == b[0] for a, b in zip(shapes(found, "state"), shapes(found, "x"), strict=True))


def test_unknown_rank():
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    proto = model("(float[n, n, n] x) => (float[a, b, c] y) { y = Transpose <perm = [2, 0, 1]> (x) }")
    proto.graph.input[0].CopyFrom(info)
    assert {len(shape) for shape in shapes(generated(proto), "x")} == {3}


def test_indices_masks_and_choices():
    text = (
        "(int64[b, s] ids, int64[b, s] mask, int64 rate) => (float[b, s, 2] y, bool k) "
        "<float[3, 2] t = {0, 1, 2, 3, 4, 5}, int64[1] a = {2}, float o = {1}, int64 r = {16000}> "
        "{ e = Gather(t, ids)  f = Cast <to = 1> (mask)  g = Sub(o, f)  h = Unsqueeze(g, a)  y = Mul(e, h)"
        "  k = Equal(rate, r) }"
    )
    found = generated(model(text), n=6)
    assert found.discarded == 0
    values = {name: np.unique(np.concatenate([f[name].ravel() for f in found.feeds])) for name in found.feeds[0]}
    assert values["ids"].tolist() == list(range(3))
    assert values["mask"].tolist() == [0, 1]
    assert values["rate"].tolist() == [16000, 16001]


def test_indices_into_an_input_of_free_size_stay_inside():
    found = generated(model("(float[n, 2] x, int64[k] i) => (float[k, 2] y) { y = Gather(x, i) }"), n=8)
    assert (len(found.feeds), found.discarded) == (8, 0)
    assert max(int(feed["i"].max()) for feed in found.feeds) > 0


def test_eight_bit_inputs_use_their_whole_range():
    found = generated(model("(uint8[n, 64] x) => (float[n, 64] y) { y = Cast <to = 1> (x) }"))
    assert (found.feeds[0]["x"].min(), found.feeds[0]["x"].max()) <= (10, 255)
    assert found.feeds[0]["x"].max() > 245


def test_values_vary_in_kind():
    found = generated(model("(float[8, 8] x) => (float[8, 8] y) { y = Relu(x) }"), n=5)
    spreads = [float(feed["x"].std()) for feed in found.feeds]
    assert spreads[2] > 4 * spreads[0] > 0
    assert 0 <= found.feeds[1]["x"].min() < found.feeds[1]["x"].max() < 1
    assert [spreads[i] for i in (3, 4)] == [0, 0]


@given(st.integers(0, 2**32))
def test_one_seed_gives_the_same_feeds(seed):
    proto = model("(float[n, 3] x, int32[n] i) => (float[n, 3] y) { a = Gather(x, i)  y = Add(a, x) }")
    session = Runtime(proto)
    one, same, other = (generate_feeds(proto, session, n=2, seed=s).feeds for s in (seed, seed, seed + 1))
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(one, same, strict=True) for k in a)
    assert not np.array_equal(one[0]["x"], other[0]["x"])


def test_pins_fix_shapes_and_values():
    proto = model("(float[n, m] x, int64 sr) => (float[n, m] y) { f = Cast <to = 1> (sr)  y = Mul(x, f) }")
    found = generated(proto, pins=Pins.parse(["x=1x512"], ["sr=16000"]))
    assert shapes(found, "x") == [(1, 512)] * 4
    assert [feed["sr"] for feed in found.feeds] == [16000] * 4
    with pytest.raises(UserError, match="did you mean 'sr'"):
        generated(proto, pins=Pins.parse(values=["srr=1"]))
    with pytest.raises(UserError, match=r"--shape: input 'x' is \[1\], expected \[n, m\]"):
        generated(proto, pins=Pins.parse(["x=1"]))


def test_inputs_with_a_default_are_left_to_it_unless_pinned():
    proto = model("(float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    assert [feed.keys() for feed in generated(proto).feeds] == [{"x"}] * 4
    assert [feed.keys() for feed in generated(proto, pins=Pins.parse(values=["w=1"])).feeds] == [{"x", "w"}] * 4


def test_a_model_that_refuses_everything_gives_no_feeds():
    found = generated(model("(float[2, 3] x) => (float[m] y) <int64[1] s = {7}> { y = Reshape(x, s) }"))
    assert (found.feeds, found.discarded) == ([], 8)
    free = generated(model("(float[n, 3] x) => (float[m] y) <int64[1] s = {7}> { y = Reshape(x, s) }"))
    assert free.feeds == []
    assert free.discarded > 20
    assert len(free.reasons) < 5


def test_a_model_without_inputs_runs_once_a_feed():
    assert generated(model("() => (float y) { y = Constant <value_float = 1.0> () }")).feeds == [{}] * 4


def typed(name, kind):
    return helper.make_value_info(name, kind)


def test_sequences_and_what_cannot_be_made_up():
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2, None])
    proto = model("(float[2] s) => (int64 y) { y = SequenceLength(s) }")
    proto.graph.input[0].CopyFrom(typed("s", helper.make_sequence_type_proto(tensor)))
    found = generated(proto)
    assert [[part.shape for part in feed["s"]] for feed in found.feeds] == [[(2, 3), (2, 3)]] * 4

    kind = TypeProto()
    kind.map_type.key_type = TensorProto.INT64
    kind.map_type.value_type.CopyFrom(tensor)
    proto.graph.input[0].CopyFrom(typed("s", kind))

    class Mapped:
        inputs, outputs = (Port("s", None, None),), ()

        def run(self, feeds):
            raise AssertionError("nothing to run")

    found = generate_feeds(proto, Mapped(), n=2, seed=0)
    assert found.feeds == []
    assert "no values are made up for input 's'" in next(iter(found.reasons))
