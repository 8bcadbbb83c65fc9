"""What passes learn from holds numbers: NaN is refused, and Inf where nothing else is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
import pytest

from onnxpress.backends.calibration import for_calibration
from onnxpress.backends.samples import Samples
from onnxpress.errors import UserError
from onnxpress.ir import lower
from onnxpress.specs import model_of

PLAIN = "g (float[n,4] x, float[n,4] mask) => (float[n,4] y) { y = Add(x, mask) }"
IMPUTING = """g (float[n,4] x, float[n,4] mask) => (float[n,4] y) {
    flat = Flatten(x)
    is_nan = IsNaN(flat)
    y = Where(is_nan, mask, x)
}"""
FLOAT32 = np.dtype(np.float32)


def walked(feeds: Sequence[Mapping[str, object]], graph: str = PLAIN) -> int:
    samples = for_calibration(Samples("calib.npz", len(feeds), lambda: iter(map(dict, feeds))), lower(model_of(graph)))
    assert samples.count == len(feeds)
    return sum(1 for _ in samples)


def feed(x: float, mask: float = 0.0, dtype: np.dtype = FLOAT32) -> dict[str, np.ndarray]:
    """Ones, but for one number of x and all of the mask."""
    found = {"x": np.ones((1, 4), dtype), "mask": np.full((1, 4), mask, dtype)}
    found["x"][0, 2] = x
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_nan_is_refused_by_input_and_sample(dtype: type) -> None:
    feeds = [feed(1, dtype=np.dtype(dtype)), feed(2, dtype=np.dtype(dtype)), feed(np.nan, dtype=np.dtype(dtype))]
    assert walked(feeds[:2]) == 2
    with pytest.raises(UserError, match=r"^calib.npz: sample 2: input 'x' holds NaN; leave the sample out$"):
        walked([*feeds, *feeds])


def test_models_that_look_for_nan_take_it_where_they_look() -> None:
    assert walked([feed(np.nan), feed(1)], IMPUTING) == 2
    with pytest.raises(UserError, match="sample 1: input 'mask' holds NaN"):
        walked([feed(np.nan), feed(1, np.nan)], IMPUTING)


def test_looking_for_nan_in_what_was_computed_does_not_count() -> None:
    safe = "g (float[n,4] x, float[n,4] mask) => (bool[n,4] y) { s = Softmax(x) \n y = IsNaN(s) }"
    with pytest.raises(UserError, match="sample 0: input 'x' holds NaN"):
        walked([feed(np.nan)], safe)


def test_inf_beside_numbers_is_taken() -> None:
    assert walked([feed(np.inf), feed(-np.inf)]) == 2
    assert walked([feed(1, -np.inf), feed(1, 0)]) == 2  # a mask, or a state that begins so
    assert walked([feed(1, 0), feed(1, np.inf)]) == 2


@pytest.mark.parametrize("graph", [PLAIN, IMPUTING])
def test_an_input_without_any_number_is_refused(graph: str) -> None:
    with pytest.raises(UserError, match=r"^calib.npz: sample 0 and all others: input 'mask' holds no finite number$"):
        walked([feed(1, np.inf), feed(2, -np.inf)], graph)


def test_other_types_pass() -> None:
    others = {"x": np.array(["nan"], object), "mask": [np.full(2, np.nan, np.float32)], "n": np.arange(3), "o": None}
    assert walked([others, {**others, "mask": np.zeros((0, 4), np.float32)}]) == 2
