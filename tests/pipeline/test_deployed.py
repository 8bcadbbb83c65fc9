"""A model that the executor refuses once it has optimized it is no fault of a pass."""

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import numpy_helper

import onnxpress
from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.ort_session import OrtSession
from onnxpress.errors import ExecutionError, UserError
from onnxpress.ir import Model
from onnxpress.passes.manager.deployed import deployed
from onnxpress.specs import model_of


class Stumbling(OrtBackend):
    """Its optimizations fail, or all of it does."""

    def __init__(self, runs_at_all: bool = True) -> None:
        super().__init__()
        self.runs_at_all = runs_at_all

    def prepare(
        self, model: Model, *, outputs: Sequence[str] | None = None, optimize: bool = False, threads: int = 1
    ) -> OrtSession:
        if optimize or not self.runs_at_all:
            raise ExecutionError("no kernel\nfor FusedThing")
        return super().prepare(model, outputs=outputs, threads=threads)


def layers() -> Model:
    proto = model_of("g (float[n,64] x) => (float[n,64] y) { h = MatMul(x, w) \n r = Relu(h) \n y = MatMul(r, w) }")
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(w, "w"))
    return onnxpress.load(proto)


@pytest.mark.parametrize(
    "pipeline",
    [
        "quantize-insert{mode=static}",
        "quantize-insert{mode=static latency=measure}",
        "quantize-insert{type=int4}",
        "prune{sparsity=0.5 unit=weight}",
        "factorize{error=0.1}",
    ],
)
def test_it_is_said_in_one_line(pipeline: str) -> None:
    data = [{"x": np.ones((2, 64), np.float32)} for _ in range(2)]
    with pytest.raises(
        UserError, match=r"only with its graph optimizations off.*: no kernel for FusedThing$"
    ) as caught:
        onnxpress.PassManager(pipeline, backend=Stumbling()).run(layers(), data=data)
    assert "\n" not in str(caught.value)


def test_what_does_not_run_at_all_is_another_matter() -> None:
    with pytest.raises(ExecutionError) as caught:
        deployed(Stumbling(runs_at_all=False), layers())
    assert not isinstance(caught.value, UserError)
