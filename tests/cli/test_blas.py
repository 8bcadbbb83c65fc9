"""A run starts the threads of BLAS only for passes that may need them."""

import os
import subprocess
import sys

import pytest

from onnxpress.cli.blas import _cores

CODE = """
import os
from onnxpress.cli.blas import Threads
threads = Threads()
from onnxpress.passes.manager.text import parse_pipeline
import numpy
threads.start_for(parse_pipeline({pipeline!r}))
from threadpoolctl import threadpool_info
print({{pool["num_threads"] for pool in threadpool_info()}}, os.environ.get("OPENBLAS_NUM_THREADS"))
"""


def threads_of(pipeline, **variables):
    names = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(pipeline=pipeline)],
        env={**env, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("pipeline", ["simplify", "at{ops=[Conv]}(float{to=float16}),dce"])
def test_passes_without_large_products_run_with_one(pipeline):
    assert threads_of(pipeline) == "{1} None"


@pytest.mark.parametrize("pipeline", ["factorize{rank=2}", "dce,guard{rel-l2=1}(prune{sparsity=0.5})"])
def test_others_run_with_as_many_as_there_are_cores(pipeline):
    assert threads_of(pipeline) == f"{{{len(os.sched_getaffinity(0))}}} None"


@pytest.mark.parametrize("pipeline", ["simplify", "factorize{rank=2}"])
def test_who_sets_the_number_is_obeyed(pipeline):
    assert threads_of(pipeline, OPENBLAS_NUM_THREADS="2") == "{2} 2"


def test_where_the_system_does_not_tell_what_a_process_may_use_it_is_all_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert _cores() == os.cpu_count()
