"""Recorded values stand for a second run of the model that they are of, or are not kept at all."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.ir import clone_model
from onnxpress.ir.analysis.linear import linear_layers
from onnxpress.passes.calibrate import recorded
from onnxpress.passes.calibrate.recorded import Recorded
from onnxpress.passes.calibrate.refit import Refit
from onnxpress.passes.calibrate.stream import observe, observe_pairs

from .test_stream import Feeds, chain, context


def test_values_that_are_kept_give_the_moments_of_two_models_side_by_side() -> None:
    model = chain()
    before = clone_model(model)
    olds, news = list(linear_layers(before.graph))[1:], list(linear_layers(model.graph))[1:]
    ctx = context(model, Feeds(5, 20))
    known = Recorded(ctx, before, [old.x for old in olds], purpose="test")
    for old, new in zip(olds, news, strict=True):
        apart, together = Refit(old, new), Refit(old, new)
        assert old.x in known
        observe(ctx, {new.x: [known.beside(old.x, [apart])]}, purpose="test")
        observe_pairs(ctx, before, {(old.x, new.x): [together]}, purpose="test")
        assert apart.count == together.count == 100
        np.testing.assert_array_equal(apart.cross, together.cross)
        np.testing.assert_array_equal(apart.second, together.second)


def test_nothing_is_kept_of_what_takes_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MEMORY", 20 * 64 * 4 * 3)
    model = chain()
    values = [layer.x for layer in linear_layers(model.graph)][1:]
    feeds = Feeds(5, 20)
    assert values[0] in Recorded(context(model, Feeds(3, 20)), model, values[:1], purpose="test")
    assert values[0] not in Recorded(context(model, feeds), model, values[:1], purpose="test")
