"""Every type of codes, in every granularity: what executors decode is what the grid says, and it is decoded once."""

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from onnxpress.errors import UserError
from onnxpress.passes.manager.weights import Outcome
from onnxpress.passes.quantize.alphabet import AFFINE, SYMMETRIC
from onnxpress.passes.quantize.levels import Block, decode, encode
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.recipe import Recipe

RNG = np.random.default_rng(11)
SHAPE = (75, 25)
W = RNG.standard_normal(SHAPE).astype(np.float32)
W[3] = 0
W[:, 5] = 0
KERNEL = RNG.standard_normal((40, 35, 3, 3)).astype(np.float32)
MATMUL = "g (float[N,75] x) => (float[N,25] y) { y = MatMul(x, w) }"
TABLE = "g (int64[N] x) => (float[N,25] y) { y = Gather(w, x) }"
CONV = "g (float[N,35,5,5] x) => (float[N,40,3,3] y) { y = Conv(x, w) }"
WAYS = [(name, True) for name in SYMMETRIC] + [(name, False) for name in AFFINE]
GRANULARITIES = ["tensor", "channel", "block"]
NARROW = {"int4": 21, "uint4": 21, "int2": 25, "uint2": 25, "float8e4m3fn": 19, "float8e5m2": 19}
IR = {10: 5, 17: 8, 19: 9, 21: 10, 25: 13}


def expected(weight, name, symmetric, granularity, channel, inner, form="cast"):
    """What the grid makes of a weight whose output axis and axis of blocks are given."""
    axes = {"tensor": (), "channel": (channel,), "block": tuple(range(weight.ndim))}[granularity]
    block = Block(inner, 16) if granularity == "block" else None
    recipe = Recipe(name, granularity, 16, symmetric)
    grid = recipe.grid(weight, axes, np.dtype(np.float32), block, may_be_negative=form == "cast")
    return decode(encode(weight, grid), grid, weight.dtype)


@pytest.mark.parametrize("opset", [10, 17, 25])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("name", "symmetric"), WAYS)
def test_executors_decode_what_the_grid_says(
    name, symmetric, granularity, opset, model, quantize, run_model, optimized
):
    """An identity matrix as x reads the weight out; 75 x 25 codes fill no whole number of bytes."""
    proto = model(MATMUL, opset=opset, ir=IR[opset], w=W)
    options = {"type": name, "granularity": granularity, "block": 16, "symmetric": symmetric, "balance": False}
    after, report = quantize(proto, min_bytes=0, **options)
    assert [entry.outcome for entry in report.weights] == [Outcome.QUANTIZED]
    decoded = run_model(after, x=np.eye(75, dtype=np.float32))["y"]
    np.testing.assert_array_equal(decoded, expected(W, name, symmetric, granularity, 1, 0))
    assert (decoded[W == 0] == 0).all()
    assert optimized(after) == ["MatMul"]


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("name", "symmetric"), WAYS)
def test_dequantize_linear_decodes_the_same(name, symmetric, granularity, model, quantize, run_model):
    proto = model(MATMUL, opset=25, ir=13, w=W)
    options = {"type": name, "granularity": granularity, "block": 16, "symmetric": symmetric, "form": "dq"}
    after, _ = quantize(proto, min_bytes=0, **options)
    assert [node.op_type for node in after.graph.node] == ["DequantizeLinear", "MatMul"]
    decoded = run_model(after, x=np.eye(75, dtype=np.float32))["y"]
    np.testing.assert_array_equal(decoded, expected(W, name, symmetric, granularity, 1, 0, "dq"))


@pytest.mark.parametrize("form", ["cast", "dq"])
@pytest.mark.parametrize(("name", "symmetric"), [way for way in WAYS if way[0] not in NARROW])
def test_rows_of_tables_are_gathered_before_they_are_decoded(name, symmetric, form, model, quantize, run_model):
    """In blocks too: their scales are rows as well."""
    proto = model(TABLE, opset=21, ir=10, w=W)
    options = {"type": name, "granularity": "block", "block": 16, "symmetric": symmetric, "form": form}
    after, _ = quantize(proto, min_bytes=0, **options)
    assert after.graph.node[0].op_type == "Gather"
    index = np.array([7, 0, 7, 74])
    rows = run_model(after, x=index)["y"]
    np.testing.assert_array_equal(rows, expected(W, name, symmetric, "block", 1, 1)[index])


@pytest.mark.parametrize("name", ["int4", "float8e4m3fn"])
def test_tables_in_narrow_types_are_decoded_whole(name, model, quantize, run_model, optimized):
    """Gather reads no such types: the table is decoded at load."""
    proto = model(TABLE, opset=21, ir=10, w=W)
    after, _ = quantize(proto, min_bytes=0, type=name, granularity="block", block=16)
    index = np.array([7, 0, 7, 74])
    rows = run_model(after, x=index)["y"]
    np.testing.assert_array_equal(rows, expected(W, name, True, "block", 1, 1)[index])
    assert optimized(after) == ["Gather"]


@pytest.mark.parametrize("form", ["cast", "dq"])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("name", "symmetric"), [("int4", True), ("uint2", False), ("int8", True)])
def test_blocks_of_kernels_run_along_input_channels(name, symmetric, size, form, model, quantize, run_model):
    kernel = KERNEL[:, :, :size, :size]
    text = CONV.replace("3,3] y", f"{6 - size},{6 - size}] y")
    proto = model(text, opset=25, ir=13, w=kernel)
    options = {"type": name, "block": 16, "symmetric": symmetric, "form": form}
    after, _ = quantize(proto, min_bytes=0, granularity="block", **options)
    scales = next(tensor for tensor in after.graph.initializer if tensor.name == "s")
    assert list(scales.dims) == [40, 3, size, size]
    x = RNG.standard_normal((2, 35, 5, 5)).astype(np.float32)
    exact = model(text, opset=25, ir=13, w=expected(kernel, name, symmetric, "block", 0, 1, form))
    np.testing.assert_allclose(run_model(after, x=x)["y"], run_model(exact, x=x)["y"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "opset"), NARROW.items())
def test_types_are_written_as_such_where_the_opset_has_them_and_as_bytes_below(name, opset, model, quantize):
    dtype = TensorProto.DataType.Value(name.upper())
    for version, expects in ((opset, dtype), (17, TensorProto.UINT8)):
        after, _ = quantize(model(MATMUL, opset=version, ir=IR[version], w=W), type=name)
        assert {tensor.name: tensor.data_type for tensor in after.graph.initializer}["q"] == expects
        assert after.opset_import[0].version == version


def test_bytes_hold_the_first_code_in_the_lowest_bits(model, quantize):
    """And int4 of opset 21 is packed in the same order."""
    stored = []
    for opset in (17, 21):
        after, _ = quantize(model(MATMUL, opset=opset, ir=IR[opset], w=W), type="int4")
        stored.append(next(tensor for tensor in after.graph.initializer if tensor.name == "q").raw_data)
    assert stored[0] == stored[1]


def test_weights_share_the_table_that_unpacks_them(model, quantize):
    text = """g (float[N,75] x) => (float[N,25] y, float[N,25] z)
        { y = MatMul(x, w) a = Neg(x) z = MatMul(a, v) }"""
    after, _ = quantize(model(text, w=W, v=W + 1), type="int4", granularity="block")
    names = sorted(tensor.name for tensor in after.graph.initializer)
    assert names == sorted(["q", "q_1", "s", "s_1", "unpack", "shape", "shape_1", "start", "end", "blocks"])


def test_an_axis_no_longer_than_a_block_gets_scales_per_channel(model, quantize):
    text = "g (float[N,16] x) => (float[N,25] y) { y = MatMul(x, w) }"
    after, _ = quantize(model(text, w=W[:16]), granularity="block", block=16)
    (scales,) = [numpy_helper.to_array(tensor) for tensor in after.graph.initializer if tensor.name == "s"]
    assert scales.shape == (25,)


@pytest.mark.parametrize(("name", "symmetric"), WAYS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_running_again_changes_nothing(name, symmetric, granularity, model, quantize):
    options = {"type": name, "granularity": granularity, "block": 4, "symmetric": symmetric, "min_bytes": 0}
    once, _ = quantize(model(MATMUL, w=W), **options)
    again, report = quantize(once, **options)
    assert again == once
    assert any("no weight was quantized" in remark.reason for remark in report.remarks)


@pytest.mark.parametrize(("granularity", "bits"), [("auto", 8), ("block", 4), ("channel", 4)])
def test_kernels_without_room_for_blocks_are_stored_in_8_bits_unless_blocks_are_asked_for(
    granularity, bits, model, quantize
):
    text = "g (float[N,24,5,5] x) => (float[N,40,3,3] y) { y = Conv(x, w) }"
    proto = model(text, opset=21, ir=10, w=KERNEL[:, :24])
    after, report = quantize(proto, type="int4", granularity=granularity)
    stored = {tensor.name: tensor.data_type for tensor in after.graph.initializer}["q"]
    assert stored == (TensorProto.INT8 if bits == 8 else TensorProto.INT4)
    told = "not in int4: no axis is longer than a block of 32"
    assert any(told in remark.reason for remark in report.remarks) == (bits == 8)


def test_many_zero_points_are_packed_too(model, quantize, run_model, optimized):
    weight = RNG.standard_normal((256, 96)).astype(np.float32)
    proto = model("g (float[N,256] x) => (float[N,96] y) { y = MatMul(x, w) }", w=weight)
    after, _ = quantize(proto, type="uint4", symmetric=False, block=16)
    shapes = {tensor.name: list(tensor.dims) for tensor in after.graph.initializer}
    assert (shapes["s"], shapes["z"]) == ([16, 96], [16 * 96 // 2])
    decoded = run_model(after, x=np.eye(256, dtype=np.float32))["y"]
    np.testing.assert_array_equal(decoded, expected(weight, "uint4", False, "block", 1, 0))
    assert optimized(after) == ["MatMul"]


def test_what_fewer_bits_do_not_make_smaller_is_stored_in_8(model, quantize):
    """Tables, scales of blocks and their nodes take more than half of a small weight."""
    text = "g (float[N,34] x) => (float[N,12] y) { y = MatMul(x, w) }"
    after, report = quantize(model(text, w=W[:34, :12]), type="uint4", symmetric=False)
    assert {tensor.name: tensor.data_type for tensor in after.graph.initializer}["q"] == TensorProto.INT8
    (told,) = [remark.reason for remark in report.remarks if remark.subject == "main/w"]
    assert "to int8" in told
    assert "not in uint4: it would not get smaller" in told


@pytest.mark.parametrize("name", ["float8e4m3fn", "float8e5m2"])
def test_floats_have_no_zero_points(name):
    with pytest.raises(UserError, match="no zero points"):
        QuantizeInsert(type=name, symmetric=False)
