"""Large matrices: bounded time and memory, by subspace iteration."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from onnx import helper

from onnxpress.passes.factorize import explicit, svd
from onnxpress.passes.factorize.factors import energy, squared_error

from .layers import low, model
from .test_layers import close, factorized, ranks
from .test_methods import moments


def test_subspace_iteration_is_nearly_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    spectrum = 0.9 ** np.arange(200)
    matrix = np.linalg.qr(random.standard_normal((200, 200)))[0] * spectrum @ random.standard_normal((200, 240))
    kernel = np.ascontiguousarray(matrix.T)[None, :, :, None, None]
    for gram in (None, moments(200, 1, 0)):
        exact = svd.decompose(kernel, gram).cut(kernel, 20)
        monkeypatch.setattr(svd, "LARGE", 100)
        large = svd.decompose(kernel, gram, 20)
        monkeypatch.setattr(svd, "LARGE", 3000)
        assert large.spectra[0].right.shape[1] == 20 + svd.OVERSAMPLING
        found = squared_error(kernel, large.cut(kernel, 20).product(), gram)
        best = squared_error(kernel, exact.product(), gram)
        assert found <= 1.02 * best
        assert abs(large.dropped(20) - found) < 1e-3 * energy(kernel, gram)


@pytest.mark.parametrize(("with_data", "most"), [(False, 9.5), (True, 13.5)])
def test_memory_is_bounded_by_the_weight(with_data: bool, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svd, "LARGE", 500)
    random = np.random.default_rng(0)
    weight = random.standard_normal((1024, 1024)).astype(np.float32)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, [4, 1024], 2)
    feeds = [{"x": random.standard_normal((4, 1024)).astype(np.float32)}] if with_data else None
    factorized(proto, "rank=2", feeds)  # what is loaded once
    tracemalloc.start()
    assert ranks(factorized(proto, "rank=32", feeds)[1]) == ["svd 32"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= most * weight.nbytes


def test_a_large_matrix_of_low_rank_is_found_without_decomposing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explicit, "LARGE", 200)
    monkeypatch.setattr(svd, "LARGE", 200)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": low(400, 300, 9)}, [4, 400], 2)
    made, report = factorized(proto)
    assert ranks(report) == ["svd 9"]
    close(proto, made, np.random.default_rng(1).standard_normal((4, 400)).astype(np.float32))
