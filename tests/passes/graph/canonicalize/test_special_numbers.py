"""`canonicalize` on numbers at the edge: NaN, infinities, -0, denormals, ends of the integers. Every bit is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, emit, lower
from onnxpress.ir.dtypes import numpy_dtype
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs.bits import differing

from .test_goldens import CASES

T = TensorProto
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 6.5, 1e-40, -1e-40, 3e38, -3e38]
KINDS = (T.BOOL, T.UINT8, T.INT8, T.UINT16, T.INT16, T.UINT32, T.INT32, T.UINT64, T.INT64, T.FLOAT, T.DOUBLE, T.FLOAT16)
BACKENDS = (OrtBackend(), ReferenceBackend())


def special(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> Any:
    """Numbers at the edge of a type, in random order."""
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return rng.choice(np.array(SPECIAL), shape).astype(dtype)
    ends = np.iinfo(dtype)
    edge = [ends.min, ends.min + 1, 0, 1, 2, 127, ends.max // 2, ends.max - 1, ends.max]
    return rng.choice(np.array(edge, dtype), shape)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: type(backend).__name__)
@pytest.mark.parametrize("name", CASES)
def test_golden_cases(name: str, backend: Backend) -> None:
    before, _ = CASES[name].models()
    rng = np.random.default_rng(0)
    feeds = []
    for size in (1, 2, 17):
        types = {info.name: info.type.tensor_type for info in before.graph.input}
        shapes = {key: tuple(d.dim_value or size for d in kind.shape.dim) for key, kind in types.items()}
        feeds.append({key: special(shapes[key], numpy_dtype(types[key].elem_type), rng) for key in types})
    assert ran(before, feeds, backend) or isinstance(backend, ReferenceBackend)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: type(backend).__name__)
@given(st.lists(st.sampled_from(KINDS), min_size=3, max_size=4), st.integers(0, 2**16))
def test_chains_of_casts(backend: Backend, kinds: list[int], seed: int) -> None:
    source, *targets = kinds
    nodes = [helper.make_node("Cast", [f"v{n}"], [f"v{n + 1}"], to=to) for n, to in enumerate(targets)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("v0", source, ["N"])],
        [helper.make_tensor_value_info(f"v{len(targets)}", targets[-1], ["N"])],
    )
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = {"v0": special((19,), numpy_dtype(source), np.random.default_rng(seed))}
    with np.errstate(all="ignore"):
        ran(before, [feed], backend)


def ran(before: ModelProto, feeds: list[dict[str, Any]], backend: Backend) -> int:
    """How many of the feeds the model takes; on each of them the result must be the same."""
    try:
        old = backend.prepare(lower(before))
    except ExecutionError:
        pytest.skip(f"{backend.name} has no kernel")
    model = lower(before)
    PassManager("canonicalize", backend=backend).run(model)
    new = backend.prepare(lower(emit(model)))
    count = 0
    for feed in feeds:
        try:
            expected = old.run(feed)
        except ExecutionError:
            continue
        count += 1
        assert not differing(expected, new.run(feed)), feed
    return count
