"""The pass keeps its stated bounds, on generated networks in which axes are coupled."""

from typing import Any, get_args

import pytest
from hypothesis import strategies as st
from onnx import ModelProto

from onnxpress.passes.prune.channels.plan import Criterion
from onnxpress.passes.prune.prune import Prune
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer


@st.composite
def pruning(draw: Any) -> Prune:
    criterion = draw(st.sampled_from([name for name in get_args(Criterion) if name != "zero"]))
    return Prune(
        unit=draw(st.sampled_from(("channel", "head"))),
        criterion=criterion,
        allocation=draw(st.sampled_from(("layer", "global", "sensitivity", "output-first"))),
        sparsity=draw(st.sampled_from((0.2, 0.5, 0.8))),
        steps=draw(st.sampled_from((1, 1, 3))),
        repair=draw(st.sampled_from(("off", "auto"))),
    )


@pytest.mark.parametrize("models", [convolutional(), transformer()], ids=["convolutional", "transformer"])
def test_bounds_hold(models: st.SearchStrategy[ModelProto]) -> None:
    checked = check_pass(pruning(), models=models, max_examples=15)
    assert checked.changed > 8
    assert checked.judged > 5
