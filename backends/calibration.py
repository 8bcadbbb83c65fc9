"""Sample data that passes learn from: there are numbers in them.

An executor takes NaN and Inf like any other data, and so does a comparison. But ranges, moments and errors that are
computed from NaN mean nothing, and what leaves NaN out would go on with less than the user believes. Inf alone has its
place: masks and initial states hold it beside numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import UserError
from ..ir import Model, Node, Value
from ..ir.dtypes import is_float, onnx_dtype
from .interface import Feed
from .samples import Samples

_LOOK_FOR_NAN = frozenset({"IsNaN", "Imputer", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"})
"""Operators of which the input may hold NaN, for missing values."""
_MOVE = frozenset({"Cast", "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"})
_MOVE |= {"Transpose", "Unsqueeze"}


def for_calibration(samples: Samples, model: Model) -> Samples:
    """The samples, for passes to learn from: walking them raises UserError at the first in which a float input holds
    NaN (unless the model looks for it there), and at the end if an input held no finite number in any of them."""
    takes_nan = {value.name for value in model.graph.inputs if _is_looked_at(value)}

    def checked() -> Iterator[Feed]:
        barren: set[str] = set()
        for index, feed in enumerate(samples):
            floats = {name: array for name, array in feed.items() if _is_float(array)}
            barren = barren if index else set(floats)
            for name, array in floats.items():
                if name not in takes_nan and np.isnan(array).any():
                    raise UserError(f"{samples.source}: sample {index}: input {name!r} holds NaN; leave the sample out")
            barren = {name for name in barren if name not in floats or not np.isfinite(floats[name]).any()}
            yield feed
        for name in sorted(barren):
            raise UserError(f"{samples.source}: sample 0 and all others: input {name!r} holds no finite number")

    return replace(samples, feeds=checked)


def _is_looked_at(value: Value) -> bool:
    """Whether an operator looks for NaN in a value, however it is moved before."""
    met, seen = [value], set()
    while met:
        for use in met.pop().uses:
            if isinstance(use.user, Node) and use.user not in seen:
                seen.add(use.user)
                if use.user.op_type in _LOOK_FOR_NAN:
                    return True
                met += use.user.outputs if use.user.op_type in _MOVE else ()
    return False


def _is_float(array: Any) -> bool:
    return isinstance(array, np.ndarray) and bool(array.size) and is_float(onnx_dtype(array.dtype))
