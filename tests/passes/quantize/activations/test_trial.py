"""Trials: on how many samples outputs are looked at."""

import numpy as np
import pytest

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Rewriter, lower
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.remarks import Remarks
from onnxpress.passes.manager.weights import WeightAccount
from onnxpress.passes.quantize.static.trial import Outputs
from onnxpress.specs import model_of

SAMPLES = [{"x": np.array(numbers, np.float32)} for numbers in ([3, 4], [-3, 4], [1, 2], [5, 6])]


@pytest.mark.parametrize(
    ("least", "error", "runs"), [(None, (9 / 107) ** 0.5, 4), (0.1, 0.0, 1), (-1.0, (9 / 107) ** 0.5, 4)]
)
def test_one_sample_is_run_if_it_says_enough(least: float | None, error: float, runs: int) -> None:
    """Abs in place of Relu: the first sample does not tell them apart."""
    model = lower(model_of("g (float[2] x) => (float[2] y) { r = Relu(x) y = Identity(r) }"))
    ctx = Context(model, Rewriter(model), OrtBackend(), Remarks(), WeightAccount(model), SAMPLES)
    outputs = Outputs(ctx, SAMPLES)
    before = ctx.progress.ticks

    def change() -> None:
        node = next(iter(model.graph.nodes))
        made = ctx.rewriter.insert("Abs", node.inputs, before=node, outputs=["a"])
        ctx.rewriter.take_over(node.outputs[0], made.outputs[0])

    found = outputs.error_after(change, 4, None if least is None else lambda error: error < least)
    assert found == pytest.approx(error)
    assert ctx.progress.ticks - before == runs


@pytest.mark.parametrize(("numbers", "samples"), [(0, 2), (4, 2), (5, 3), (6, 3), (7, 4), (100, 4)])
def test_fewer_samples_do_where_outputs_are_large(numbers: int, samples: int) -> None:
    model = lower(model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }"))
    ctx = Context(model, Rewriter(model), OrtBackend(), Remarks(), WeightAccount(model), SAMPLES)
    assert Outputs(ctx, [*SAMPLES, *SAMPLES]).samples_with(numbers, 2, 4) == samples
