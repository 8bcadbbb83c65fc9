"""Moments of every other sample; of a layer too wide for that, of all samples."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.ir import lower
from onnxpress.ir.analysis.linear import Linear, linear_layers
from onnxpress.passes.calibrate import stages
from onnxpress.passes.calibrate.halves import Halves
from onnxpress.passes.calibrate.refit import Refit

K, N = 12, 5
RANDOM = np.random.default_rng(0)
W = RANDOM.standard_normal((1, K, N))


def layer(k: int = K) -> Linear:
    weight = numpy_helper.from_array(np.zeros((k, N), np.float32), "w")
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["r", k])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["r", N])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", infos, outputs, [weight])
    (found,) = linear_layers(lower(helper.make_model(graph)).graph)
    return found


def samples(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    mixed = np.eye(K) + 0.2 * RANDOM.standard_normal((K, K))
    rows = [RANDOM.standard_normal((20, K)) for _ in range(count)]
    return [(x, x @ mixed + 0.1 * RANDOM.standard_normal(x.shape)) for x in rows]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for the moments of all samples, and not for those of halves."""
    monkeypatch.setattr(stages, "MEMORY", Refit.nbytes_for(layer(), layer()))


@pytest.mark.parametrize("kept", [1, 3000, 5999])
def test_a_layer_of_6000_inputs_has_room(kept: int) -> None:
    old, new = layer(6000), layer(kept)
    assert Halves.nbytes_for(old, new) <= stages.MEMORY
    assert Halves.nbytes_for(old, new) in (Refit.nbytes_for(old, new), 3 * Refit.nbytes_for(old, new))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("count", [1, 2, 7])
def test_moments_of_all_samples_are_those_of_the_halves_together(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Halves(layer(), layer())
    assert len(wide.parts) == 1
    monkeypatch.undo()
    halves = Halves(layer(), layer())
    assert len(halves.parts) == 2
    for x, now in samples(count):
        wide.update(x, now)
        halves.update(x, now)
    assert wide.count == halves.count == 20 * count
    np.testing.assert_allclose(wide.whole().second, halves.whole().second, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(wide.whole().cross, halves.whole().cross, rtol=1e-12, atol=1e-9)
    assert wide.whole().ridge() == pytest.approx(halves.whole().ridge())


@pytest.mark.usefixtures("narrow")
def test_without_halves_the_ridge_is_what_few_rows_make_necessary() -> None:
    seen, feeds = Halves(layer(), layer()), samples(50)
    for x, now in feeds:
        seen.update(x, now)
    fit, found = seen.refitted(W, W, ridge=None, bias=False)
    assert found is not None
    np.testing.assert_array_equal(found, fit.solve(W, ridge=fit.ridge(), bias=False, prior=W)[0])
    x, now = (np.concatenate(each) for each in zip(*feeds, strict=True))
    assert np.linalg.norm(now @ found[0] - x @ W[0]) < 0.5 * np.linalg.norm(now @ W[0] - x @ W[0])


def test_a_ridge_that_is_given_is_taken() -> None:
    seen = Halves(layer(), layer())
    for x, now in samples(4):
        seen.update(x, now)
    fit, found = seen.refitted(W, W, ridge=0.3, bias=True)
    assert found is not None
    np.testing.assert_array_equal(found, fit.solve(W, ridge=0.3, bias=True, prior=W)[0])
