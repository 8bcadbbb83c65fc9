"""Workers of xdist take one core each."""

from __future__ import annotations

import os

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="only workers share the cores")
def test_blas_has_one_thread() -> None:
    assert np.eye(2).tolist() == scipy.linalg.cholesky(np.eye(2)).tolist()  # both have a BLAS of their own
    given = int(os.environ["OPENBLAS_NUM_THREADS"])
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {given}
