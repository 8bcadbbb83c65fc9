"""After `fold,dce` every model of onnx's backend tests gives the outputs that it gave before, bit for bit, and those
recorded, within the case's own tolerance, wherever it gave them before.

The executor is onnxruntime in the reference configuration. A model that onnxruntime refuses is run, and folded, by
onnx's reference evaluator instead; where that refuses it too, the skip has the words of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""Operators whose outputs differ from run to run; a Dropout that trains is one too."""

Feeds = Mapping[str, Any]
Note = Callable[[str, object], None]


def test_outputs_are_kept(stored_case: Any, record_property: Note) -> None:
    check(stored_case, stored_case.load(), stored_case.recorded(), "fold,dce", record_property)


def test_outputs_are_kept_with_frozen_defaults(stored_case: Any, record_property: Note) -> None:
    """Most of these models are of IR version 3 and list their weights as inputs."""
    proto = stored_case.load()
    defaults = {dense.name for dense in proto.graph.initializer}
    recorded = [({n: v for n, v in feeds.items() if n not in defaults}, out) for feeds, out in stored_case.recorded()]
    check(stored_case, proto, recorded, "freeze-defaults,fold,dce", record_property)


def test_outputs_of_a_node_are_kept(node_case: Any, record_property: Note) -> None:
    check(node_case, node_case.load(), node_case.recorded(), "fold,dce", record_property)


def test_outputs_of_a_node_are_kept_with_constant_inputs(node_case_of_many_inputs: Any, record_property: Note) -> None:
    """All inputs but the first become initializers, so that there is something to fold."""
    case = node_case_of_many_inputs
    proto, recorded = with_constant_inputs(case)
    check(case, proto, recorded, "fold,dce", record_property)


def test_the_passes_change_some_cases(some_node_cases_of_many_inputs: list[Any]) -> None:
    """If nothing were changed, the tests above would show nothing."""
    models = [lower(with_constant_inputs(case)[0]) for case in some_node_cases_of_many_inputs]
    assert any(onnxpress.PassManager("fold,dce", measure=False).run(model).changed for model in models)


def check(case: Any, proto: ModelProto, recorded: list[tuple[Feeds, list[Any]]], pipeline: str, note: Note) -> None:
    """Run a case before and after the pipeline, and compare."""
    executor, before = first_that_runs(proto, case, [feeds for feeds, _ in recorded])
    model = lower(proto, case.path)
    report = onnxpress.PassManager(pipeline, backend=executor, measure=False).run(model)
    note("conformance", "changed" if report.changed else "unchanged")
    result = emit(model)
    assert result.ByteSize() <= proto.ByteSize()
    if is_valid(proto):
        onnx.checker.check_model(result, full_check=True)
    session = executor.prepare(lower(result, case.path))
    for (feeds, expected), first in zip(recorded, before, strict=True):
        after = session.run(feeds)
        assert list(after) == [info.name for info in proto.graph.output]
        if is_random(proto):
            assert [kind_of(value) for value in after.values()] == [kind_of(value) for value in first.values()]
            continue
        for name, value in after.items():
            assert is_identical(value, first[name]), f"{name}: {first[name]} became {value}"
        if agrees(case, expected, first):
            assert agrees(case, expected, after)


def with_constant_inputs(case: Any) -> tuple[ModelProto, list[tuple[Feeds, list[Any]]]]:
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


def first_that_runs(proto: ModelProto, case: Any, feeds: list[Feeds]) -> tuple[Backend, list[dict[str, Any]]]:
    """The first executor that takes a model, and what it computes."""
    refusals = []
    for executor in (OrtBackend(), ReferenceBackend()):
        try:
            session = executor.prepare(lower(proto, case.path))
            return executor, [session.run(feed) for feed in feeds]
        except ExecutionError as error:
            refusals.append(f"{executor.name}: {error}")
    pytest.skip(" | ".join(refusals))


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


def agrees(case: Any, expected: list[Any], outputs: Feeds) -> bool:
    """Whether outputs are as recorded, by the rule of onnx's own runner."""
    try:
        Runner.assert_similar_outputs(expected, list(outputs.values()), case.rtol, case.atol)
    except (AssertionError, TypeError, AttributeError):  # the runner meets types that it does not expect
        return False
    return True
