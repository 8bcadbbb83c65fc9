"""Arrays to observe: all kinds of numbers, and the finite ones of them in double precision."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = [np.float16, np.float32, np.float64]
OTHERS = [np.int8, np.uint8, np.int32, np.bool_]


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Any array of numbers: empty, 0-d, constant, NaN, Inf, denormal, of either sign, or of few distinct numbers."""
    dtype = np.dtype(draw(st.sampled_from([*FLOATS, *FLOATS, *OTHERS])))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6))
    array = draw(hnp.arrays(dtype, shape))
    if dtype == np.float32 and draw(st.booleans()):
        with np.errstate(over="ignore"):
            array = array.astype(ml_dtypes.bfloat16)
    return array.T if draw(st.booleans()) else array


@st.composite
def ordinary(draw: st.DrawFn, size: int = 3000) -> Array:
    """Numbers as activations have them: of one of several distributions, some with outliers, some cut at zero."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    kind = draw(st.sampled_from(["normal", "laplace", "uniform", "lognormal", "relu", "silu"]))
    made = {
        "normal": lambda: rng.normal(size=size),
        "laplace": lambda: rng.laplace(size=size),
        "uniform": lambda: rng.uniform(-1, 2, size),
        "lognormal": lambda: rng.lognormal(size=size),
        "relu": lambda: np.maximum(rng.normal(size=size), 0),
        "silu": lambda: (lambda x: x / (1 + np.exp(-x)))(3 * rng.normal(size=size)),
    }[kind]()
    if draw(st.booleans()):
        made[: size // 500] *= draw(st.sampled_from([3, 30]))
    factor = draw(st.sampled_from([1e-3, 1.0, -1.0, 1e4]))
    return (made * factor).astype(np.float32)


def finite(*seen: Array) -> Array:
    """The finite numbers of arrays, as doubles."""
    flat = np.concatenate([np.zeros(0), *(np.asarray(array).astype(np.float64).ravel() for array in seen)])
    return flat[np.isfinite(flat)]
