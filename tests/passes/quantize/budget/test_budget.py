"""A budget of bytes: it is kept, spent where outputs gain most, and once."""

import numpy as np
import pytest
from onnx import numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import emit, lower, verify
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.weights import Reason
from onnxpress.passes.quantize.budget.limit import Limit
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert

RNG = np.random.default_rng(7)
LOUD, QUIET = (RNG.standard_normal((160, 160)).astype(np.float32) for _ in range(2))
TEXT = """g (float[N,160] x) => (float[N,160] y) {
  p = MatMul(x, loud)
  q = MatMul(x, quiet)
  t = Mul(q, small)
  y = Add(p, t)
}"""
SMALL = np.full(1, 1e-3, np.float32)
BYTES = LOUD.nbytes + QUIET.nbytes + SMALL.nbytes
DATA = [{"x": RNG.standard_normal((40, 160)).astype(np.float32)} for _ in range(8)]


def run(proto, data=DATA, **options):
    lowered = lower(proto)
    manager = PassManager([QuantizeInsert(**{"min_bytes": 0, "rounding": "nearest", **options})], backend=OrtBackend())
    report = manager.run(lowered, data=data)
    verify(lowered)
    return emit(lowered), report


def rows(report):
    return {row.layer: row.cells for row in report.layers if row.by == "quantize-insert, types"}


def constant_bytes(proto):
    """Of all constants, whatever they are."""
    return sum(len(one.raw_data) or numpy_helper.to_array(one).nbytes for one in proto.graph.initializer)


def error(before, after, data=DATA):
    old, new = (OrtBackend().prepare(lower(proto)) for proto in (before, after))
    pairs = [(old.run(feed)["y"], new.run(feed)["y"]) for feed in data]
    return np.sqrt(sum(np.square(a - b).sum() for a, b in pairs) / sum(np.square(a).sum() for a, _ in pairs))


@pytest.fixture
def two(model):
    """A sum of two products, of which one hardly counts."""
    return model(TEXT, loud=LOUD, quiet=QUIET, small=SMALL)


@pytest.mark.parametrize("budget", ["0.6", "0.4", "25%", "15%", "40kB"])
def test_constants_fit_into_the_budget(two, budget):
    after, _ = run(two, budget=budget)
    assert constant_bytes(after) <= Limit.of(budget).room(BYTES)


def test_more_bytes_are_less_error(two):
    errors = [error(two, run(two, budget=budget)[0]) for budget in ("12%", "18%", "30%", "50%", "80%")]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


def test_bytes_go_where_outputs_need_them(two):
    _, report = run(two, budget="20%")
    found = rows(report)
    assert found["main/quiet"]["type"].startswith("int2")
    assert found["main/loud"]["type"].startswith("int8")
    assert found["main/loud"]["outputs'"] == pytest.approx(error(two, run(two, exclude=("quiet",))[0]), rel=0.2)
    assert "err by" in found["main/loud"]["why"]
    assert found["main/quiet"]["why"] == "nothing is smaller"


def test_it_beats_one_type_for_all(two):
    """At no more bytes than each takes; and lies below the line between two of them."""
    points = []
    for kind in ("int4", "int8"):
        uniform, _ = run(two, type=kind)
        spent, _ = run(two, budget=str(constant_bytes(uniform)))
        assert error(two, spent) <= error(two, uniform) * 1.001  # errors do not quite add up in squares
        points.append((constant_bytes(uniform), error(two, uniform)))
    middle = sum(size for size, _ in points) // 2
    assert error(two, run(two, budget=str(middle))[0]) <= sum(each for _, each in points) / 2


def test_what_has_room_stays_in_float(two):
    after, report = run(two, budget="1")
    assert after == two
    assert {entry.reason for entry in report.weights if entry.nbytes > 1000} == {Reason.PRECISION}
    assert {cells["type"] for cells in rows(report).values()} == {"float"}


def test_a_budget_that_nothing_meets_is_a_mistake(two):
    with pytest.raises(UserError, match=r"budget=0\.01: that is 2048 bytes, and float constants take \d+ of 204804 at"):
        run(two, budget="0.01")


def test_without_data_the_errors_of_weights_count(two):
    after, report = run(two, data=None, budget="20%")
    assert constant_bytes(after) <= BYTES // 5
    assert {cells["type"].split()[0] for cells in rows(report).values()} <= {"int4", "int8"}


def test_it_is_spent_once(two):
    once, _ = run(two, budget="20%")
    twice, report = run(once, budget="20%")
    assert twice == once
    assert "a budget is spent once" in " ".join(remark.reason for remark in report.remarks)


def test_a_branch_that_the_data_never_take_is_not_thrown_away(model):
    """Outputs do not depend on its weights, on these data: it gets about the bits that its like gets."""
    text = """g (float[N,160] x, bool b) => (float[N,160] y) {
      y = If (b) <then_branch = t () => (float[N,160] p) { p = MatMul(x, loud) },
                  else_branch = e () => (float[N,160] q) { q = MatMul(x, quiet) }>
    }"""
    proto = model(text, loud=LOUD, quiet=QUIET)
    data = [{**feed, "b": np.array(True)} for feed in DATA]
    _, report = run(proto, data=data, budget="27%")
    found = rows(report)
    assert found["main/quiet"]["type"].startswith("int8")
    assert "the data never reach it" in found["main/quiet"]["why"]
    assert found["main/loud"]["type"].startswith("int8")


def test_types_that_a_format_and_an_opset_lack_are_left_out(two):
    """DequantizeLinear has int4 from opset 21 on; nothing is raised for a budget."""
    _, report = run(two, budget="45%", form="dq")
    assert {cells["type"].split()[0] for cells in rows(report).values()} <= {"int8", "float"}
    _, report = run(two, budget="20%", format="nbits")
    assert {cells["type"].split()[0] for cells in rows(report).values()} == {"uint2", "uint8"}
