"""By estimated times a model runs in integers only if that saves a share of its time that the estimates can tell."""

import numpy as np
from onnx import numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.specs import model_of

RNG = np.random.default_rng(3)
TEXT = """
g (float[1,64,10,10] x, float[1,R,500] v) => (float[1,64,10,10] y, float[1,R,500] z) {
    y = Conv<pads = [1, 1, 1, 1]>(x, w)
    z = Softmax(v)
}"""


def run(rows: int, latency: str) -> tuple[list[str], list[str]]:
    """The operators of the result, and the remarks. The convolution is estimated to take some 30 us less in integers;
    the Softmax, which is faster in float, takes .3 us for each of its `rows`."""
    proto = model_of(TEXT)
    weight = RNG.standard_normal((64, 64, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model = lower(proto)
    shapes = {"x": (1, 64, 10, 10), "v": (1, rows, 500)}
    feeds = [{name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(3)]
    insert = QuantizeInsert(mode="static", rounding="nearest", clip="none", latency=latency)
    report = PassManager([insert], OrtBackend()).run(model, data=feeds)
    return [node.op_type for node in model.graph.nodes], [str(remark) for remark in report.remarks]


def test_a_convolution_that_is_most_of_the_time_runs_in_integers() -> None:
    operators, _ = run(2, "profile")
    assert "QuantizeLinear" in operators


def test_what_saves_less_than_the_estimates_can_tell_stays_in_float() -> None:
    operators, remarks = run(1200, "profile")
    assert "QuantizeLinear" not in operators
    assert any("nothing runs in integers" in remark and "less than 10% faster" in remark for remark in remarks)


def test_where_times_are_not_looked_at_it_runs_in_integers() -> None:
    operators, _ = run(1200, "off")
    assert "QuantizeLinear" in operators
