"""The pass finds GELU however it is written, keeps its bound, and leaves everything else alone."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxpress_tanh_gelu.tanh_gelu import BOUND, KERNELS, TanhGelu

import onnxpress as op
from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.specs import check_pass

DTYPES = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE, np.float16: TensorProto.FLOAT16}


def gelu(order: int = 0, *, divide: bool = True, dtype: type = np.float32, opset: int = 17, swap: bool = False):
    """A model that is one GELU: `order` says which factors meet first."""
    constants = {"s": math.sqrt(2) if divide else math.sqrt(0.5), "one": 1.0, "half": 0.5}

    def both(a: str, b: str) -> list[str]:
        return [b, a] if swap else [a, b]

    nodes = [
        helper.make_node("Div", ["x", "s"], ["r"]) if divide else helper.make_node("Mul", both("x", "s"), ["r"]),
        helper.make_node("Erf", ["r"], ["e"]),
        helper.make_node("Add", both("e", "one"), ["a"]),
        helper.make_node("Mul", both(*[("x", "a"), ("x", "half"), ("a", "half")][order]), ["m"]),
        helper.make_node("Mul", both("m", ["half", "a", "x"][order]), ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gelu",
        [helper.make_tensor_value_info("x", DTYPES[dtype], ["n", 8])],
        [helper.make_tensor_value_info("y", DTYPES[dtype], ["n", 8])],
        [numpy_helper.from_array(np.array(value, dtype), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


GELUS = st.builds(
    gelu, st.integers(0, 2), divide=st.booleans(), dtype=st.sampled_from([np.float32, np.float64]), swap=st.booleans()
)


def test_its_promises():
    """Whatever the options, where it applies: the bound that it states is judged on what really comes out."""
    checked = check_pass(TanhGelu, models=GELUS)
    assert checked.changed > 0
    assert checked.judged > 0


@pytest.mark.parametrize("order", range(3))
@pytest.mark.parametrize("divide", [True, False])
@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_way_of_writing_it_is_found(order, divide, swap, dtype):
    model = op.load(gelu(order, divide=divide, swap=swap, dtype=dtype))
    report = op.PassManager([TanhGelu()], measure=False).run(model)
    kinds = [node.op_type for node in model.graph.nodes]
    assert kinds == ["Mul", "Mul", "Mul", "Add", "Mul", "Tanh", "Mul", "Add", "Mul"]
    (stated,) = report.bounds
    assert (stated.form, stated.value, float(stated.per_channel[0])) == ("absolute", "y", BOUND)


def test_as_an_operator():
    model = op.load(gelu(opset=20))
    report = op.PassManager("tanh-gelu{form=op}").run(model)
    assert [node.op_type for node in model.graph.nodes] == ["Gelu"]
    assert report.after.error is not None
    assert report.after.error["max-abs"] <= BOUND + 1e-6


def test_an_old_opset_has_no_such_operator():
    model = op.load(gelu(opset=17))
    report = op.PassManager("tanh-gelu{form=op}").run(model)
    assert not report.changed
    assert any("needs opset 20" in remark.reason for remark in report.remarks)


def test_what_others_read_stays():
    proto = gelu()
    proto.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 8]))
    model = op.load(proto)
    assert not op.PassManager([TanhGelu()]).run(model).changed


@given(
    st.sampled_from(["one", "half", "s"]),
    st.floats(0.1, 3).filter(lambda v: min(abs(v - c) for c in (0.5, 1, 1.414)) > 0.1),
)
def test_other_constants_are_no_gelu(name, value):
    proto = gelu()
    at = next(index for index, tensor in enumerate(proto.graph.initializer) if tensor.name == name)
    proto.graph.initializer[at].CopyFrom(numpy_helper.from_array(np.float32(value), name))
    assert not op.PassManager([TanhGelu()], measure=False).run(op.load(proto)).changed


def test_the_bound_is_above_the_greatest_difference():
    """On a grid, and between its points by a Lipschitz constant: both slopes are below 1.2, so that the difference
    moves by less than 2.4 times the distance to the next point.

    Both forms less x/2 are even functions, so that x >= 0 is enough; from 6 on both are within 1e-8 of x.
    """
    step, worst = 2e-6, 0.0
    erf = np.vectorize(math.erf, otypes=[float])
    for start in np.arange(0, 6, 0.5):
        x = start + np.arange(0, 0.5 + step, step)
        exact = x / 2 * (1 + erf(x / math.sqrt(2)))
        tanh = x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        worst = max(worst, float(np.abs(exact - tanh).max()))
    assert worst + 2.4 * step / 2 + 1e-9 < BOUND
    assert worst > 0.99 * BOUND  # it is no larger than it has to be


@pytest.mark.parametrize("executor", [OrtBackend(), ReferenceBackend()], ids=lambda executor: executor.name)
@pytest.mark.parametrize(("kernel", "exact"), [("Erf", math.erf), ("Tanh", math.tanh)])
def test_the_kernels_are_as_good_as_assumed(executor, kernel, exact):
    node = helper.make_node(kernel, ["x"], ["y"])
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    model = op.load(helper.make_model(helper.make_graph([node], kernel, infos[:1], infos[1:]), ir_version=8))
    tiny = np.geomspace(1e-30, 12, 20_000)
    x = np.concatenate([np.linspace(-12, 12, 200_001), tiny, -tiny]).astype(np.float32)
    wanted = np.array([exact(float(v)) for v in x])
    error = np.abs(executor.prepare(model).run({"x": x})["y"] - wanted)
    assert error.max() <= KERNELS * 2.0**-24


def test_it_is_registered():
    assert str(op.PassManager("no-erf")._manager.passes) == "fold,tanh-gelu,dce"
    assert onnx.__version__
