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

SAMPLES = [{"x": np.ones(2, np.float32)}] * 8


@pytest.mark.parametrize(("numbers", "samples"), [(0, 2), (4, 2), (5, 3), (6, 3), (7, 4), (100, 4)])
def test_fewer_samples_do_where_outputs_are_large(numbers: int, samples: int) -> None:
    model = lower(model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }"))
    ctx = Context(model, Rewriter(model), OrtBackend(), Remarks(), WeightAccount(model), SAMPLES)
    assert Outputs(ctx, SAMPLES).samples_with(numbers, 2, 4) == samples
