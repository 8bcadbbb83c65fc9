"""Large matrices: bounded time and memory, by subspace iteration."""

from __future__ import annotations

import numpy as np

from onnxpress.passes.factorize import svd
from onnxpress.passes.factorize.factors import energy, squared_error

from .test_methods import moments


def test_subspace_iteration_is_nearly_as_good(monkeypatch) -> None:  # type: ignore[no-untyped-def]
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
