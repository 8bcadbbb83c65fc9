"""A run has several threads of BLAS only for models with a large layer, and leaves the number as it was."""

import os
import subprocess
import sys

import pytest

from onnxpress.passes.manager.threads import LARGE, VARIABLES

CODE = """
import numpy, scipy.linalg, onnxpress
from onnx import numpy_helper
from threadpoolctl import threadpool_info, threadpool_limits
from onnxpress.passes.manager.instruments import Instrument
from onnxpress.specs import model_of

def threads():
    return sorted({{pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}})

class Watch(Instrument):
    def before(self, pass_, model):
        print(pass_.name, threads())

proto = model_of("g (float[n,{k}] x) => (float[n,4] y) {{ y = MatMul(x, w) }}")
proto.graph.initializer.append(numpy_helper.from_array(numpy.ones(({k}, 4), numpy.float32), "w"))
with threadpool_limits(limits=2, user_api="blas"):
    onnxpress.PassManager({pipeline!r}, instruments=[Watch()], measure=False).run(onnxpress.load(proto))
    print("after", threads())
"""


def told(k: int, pipeline: str, **variables: str) -> list[str]:
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    code = CODE.format(k=k, pipeline=pipeline)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**env, **variables}, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("k", "pipeline", "threads"),
    [(LARGE - 1, "quantize-insert", 1), (LARGE, "quantize-insert", 2), (LARGE - 1, "dce", 2)],
)
def test_one_thread_unless_a_layer_is_large(k: int, pipeline: str, threads: int) -> None:
    assert told(k, pipeline) == [f"{pipeline} [{threads}]", "after [2]"]


@pytest.mark.parametrize("name", VARIABLES)
def test_who_sets_the_number_is_obeyed(name: str) -> None:
    assert told(8, "quantize-insert", **{name: "2"}) == ["quantize-insert [2]", "after [2]"]
