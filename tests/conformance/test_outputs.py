"""Every model of onnx's backend tests gives the outputs that it gave before, and those recorded, within the case's own
tolerance, wherever it gave them before: after folding, and after the pipelines that simplify. A second run of those
changes nothing more.

What EXACT passes made is compared bit for bit, what others had a hand in within a few units of rounding. The executor
is onnxruntime in the reference configuration. A model that onnxruntime refuses is run, and folded, by onnx's reference
evaluator instead; where that refuses it too, the skip has the words of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import pytest
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper
from onnx.backend.test.runner import Runner

import onnxpress
from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, emit, lower
from onnxpress.passes.manager.report import Step

from .conftest import PIPELINES

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""Operators whose outputs differ from run to run; a Dropout that trains is one too."""
ROUNDING = 8
"""Units of roundoff of the greatest element by which a float may be off where the pipeline rounds otherwise."""

Feeds = Mapping[str, Any]
Note = Callable[[str, object], None]
Given = tuple[ModelProto, list[tuple[Feeds, list[Any]]]]


def test_outputs_are_kept(stored_case: Any, pipeline: str, record_property: Note) -> None:
    check(stored_case, as_it_is, pipeline, record_property)


def test_outputs_are_kept_with_frozen_defaults(stored_case: Any, pipeline: str, record_property: Note) -> None:
    """Most of these models are of IR version 3 and list their weights as inputs."""
    check(stored_case, without_defaults, f"freeze-defaults,{pipeline}", record_property)


def test_outputs_of_a_node_are_kept(node_case: Any, pipeline: str, record_property: Note) -> None:
    check(node_case, as_it_is, pipeline, record_property)


def test_outputs_of_a_node_are_kept_with_constant_inputs(
    node_case_of_many_inputs: Any, pipeline: str, record_property: Note
) -> None:
    """All inputs but the first become initializers, so that there is something to fold."""
    check(node_case_of_many_inputs, with_constant_inputs, pipeline, record_property)


@pytest.mark.parametrize("text", PIPELINES)
def test_the_passes_change_some_cases(text: str, some_node_cases_of_many_inputs: list[Any]) -> None:
    """If nothing were changed, the tests above would show nothing."""
    models = [lower(with_constant_inputs(case)[0]) for case in some_node_cases_of_many_inputs]
    assert any(onnxpress.PassManager(text, measure=False).run(model).changed for model in models)


def check(case: Any, given: Callable[[Any], Given], pipeline: str, note: Note) -> None:
    """Run a case before and after the pipeline, and compare."""
    original = first_run(case, given)
    if isinstance(original, str):
        pytest.skip(original)
    (proto, recorded), executor, before, valid = original
    model = lower(proto, case.path)
    manager = onnxpress.PassManager(pipeline, backend=executor, measure=False)
    report = manager.run(model)
    note("conformance", (pipeline, report.changed))
    result = emit(model)
    if not report.changed:
        assert result == proto
        return
    assert result.ByteSize() <= proto.ByteSize()
    if valid:
        onnx.checker.check_model(result, full_check=True)
    assert "simplify" not in pipeline or not manager.run(lower(result, case.path)).changed
    session = executor.prepare(lower(result, case.path))
    same = is_near if rounds(report.steps) else is_identical
    for (feeds, expected), first in zip(recorded, before, strict=True):
        after = session.run(feeds)
        assert list(after) == [info.name for info in proto.graph.output]
        if is_random(proto):
            assert [kind_of(value) for value in after.values()] == [kind_of(value) for value in first.values()]
            continue
        for name, value in after.items():
            assert same(value, first[name]), f"{name}: {first[name]} became {value}"
        if agrees(case, expected, first):
            assert agrees(case, expected, after)


def rounds(steps: Sequence[Step]) -> bool:
    """Whether a pass that is not EXACT changed anything."""
    return any(rounds(step.children) if step.children else step.changed and step.effect != "EXACT" for step in steps)


def as_it_is(case: Any) -> Given:
    return case.load(), case.recorded()


def without_defaults(case: Any) -> Given:
    """A case whose feeds leave the defaults of inputs as they are."""
    proto = case.load()
    defaults = {dense.name for dense in proto.graph.initializer}
    return proto, [({n: v for n, v in feeds.items() if n not in defaults}, out) for feeds, out in case.recorded()]


def with_constant_inputs(case: Any) -> Given:
    """A case whose inputs but the first are initializers, as far as they are tensors."""
    proto = ModelProto()
    proto.CopyFrom(case.load())
    proto.ir_version = max(proto.ir_version, 4)
    ((feeds, expected),) = case.recorded()
    constant = [
        i
        for i in list(proto.graph.input)[1:]
        if i.type.HasField("tensor_type") and isinstance(feeds[i.name], np.ndarray)
    ]
    for info in constant:
        proto.graph.initializer.append(numpy_helper.from_array(feeds[info.name], info.name))
        proto.graph.input.remove(info)
    kept = {info.name for info in proto.graph.input}
    return proto, [({name: value for name, value in feeds.items() if name in kept}, expected)]


@lru_cache(maxsize=1)
def first_run(case: Any, given: Callable[[Any], Given]) -> tuple[Given, Backend, list[dict[str, Any]], bool] | str:
    """A case, the first executor that takes it, what it computes there and whether it is valid; else why none does."""
    proto, recorded = given(case)
    refusals = []
    for executor in (OrtBackend(), ReferenceBackend()):
        try:
            session = executor.prepare(lower(proto, case.path))
            outputs = [session.run(feeds) for feeds, _ in recorded]
        except ExecutionError as error:
            refusals.append(f"{executor.name}: {error}")
        else:
            return (proto, recorded), executor, outputs, is_valid(proto)
    return " | ".join(refusals)


def is_valid(proto: ModelProto) -> bool:
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def is_random(proto: ModelProto) -> bool:
    def trains(node: NodeProto) -> bool:
        return node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])

    return any(node.op_type in RANDOM or trains(node) for node in nodes_of(proto.graph))


def nodes_of(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from nodes_of(body)


def kind_of(value: Any) -> Any:
    """The type and shape of a value, elements left out."""
    return [kind_of(item) for item in value] if isinstance(value, list) else (value.dtype, value.shape)


def is_identical(a: Any, b: Any) -> bool:
    """Whether two values are the same to the bit; strings by their characters."""
    if isinstance(a, list) or isinstance(b, list):
        return type(a) is type(b) and len(a) == len(b) and all(map(is_identical, a, b))
    if a is None or b is None:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


def is_near(a: Any, b: Any) -> bool:
    """Whether floats are the same apart from rounding, and all else to the bit."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(is_near, a, b))
    if is_identical(a, b):
        return True
    if a is None or b is None or (a.dtype, a.shape) != (b.dtype, b.shape) or a.dtype.kind != "f":
        return False
    finite = np.isfinite(b)
    room = ROUNDING * float(np.finfo(a.dtype).eps) * float(np.abs(b[finite]).max(initial=0.0))
    return bool(np.allclose(a.astype(float), b.astype(float), rtol=0, atol=room, equal_nan=True))


def agrees(case: Any, expected: list[Any], outputs: Feeds) -> bool:
    """Whether outputs are as recorded, by the rule of onnx's own runner."""
    try:
        Runner.assert_similar_outputs(expected, list(outputs.values()), case.rtol, case.atol)
    except (AssertionError, TypeError, AttributeError):  # the runner meets types that it does not expect
        return False
    return True
