"""Negative cases of a rewrite, made from a model that it fits: where it must hold back, or still be right.

Each variant changes one thing that a rewrite is apt to overlook: an inner value has another reader, is an output too
or is captured by a body; sizes are open; a weight can be overridden; all lies in a body or a function; the opset is
another. `check_variants` runs a pipeline over each of them and compares what comes out with what went in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, defs, helper, shape_inference

from ..backends.generate import generate_feeds
from ..backends.ort import OrtBackend
from ..errors import ExecutionError
from ..ir import Backend, emit, lower
from ..ir.dtypes import numpy_dtype
from ..passes.manager.manager import PassManager
from ..passes.manager.report import Report
from .bits import differing
from .validity import fault_of

FEEDS = 6
_CONDITION = "negative_condition"
_LEAST_OPSET, _GREATEST_OPSET = 7, 24


@dataclass(frozen=True)
class Variant:
    """A model, and what is different in it."""

    what: str
    model: ModelProto


def variants(model: ModelProto) -> Iterator[Variant]:
    """The variants of a model that onnx takes for valid; those that it does not are left out."""
    types = _types(model)
    made = [
        *_other_readers(model, types),
        *_open_sizes(model),
        *_overridable(model),
        *_in_a_body(model),
        *_in_a_function(model),
        *_other_opsets(model),
    ]
    return (variant for variant in made if not fault_of(variant.model))


def check_variants(
    pipeline: str, model: ModelProto, *, rtol: float = 0.0, backend: Backend | None = None
) -> dict[str, Report]:
    """Run the pipeline over the model and every variant of it; the reports by what is different ("" for the model).

    Raises AssertionError unless the result is valid, has the same inputs and outputs, and gives the same outputs on
    generated inputs of several sizes: to the bit, or with `rtol` within that share of the greatest element. The pass
    manager verifies the structure. At least the model itself must have run.
    """
    executor = backend or OrtBackend()
    return {
        variant.what: _check(pipeline, variant, rtol, executor) for variant in (Variant("", model), *variants(model))
    }


def _check(pipeline: str, variant: Variant, rtol: float, backend: Backend) -> Report:
    where = f"{pipeline} on the model" + (f" where {variant.what}" if variant.what else "")
    before = variant.model
    lowered = lower(before)
    report = PassManager(pipeline, backend=backend).run(lowered)
    after = emit(lowered)
    if fault := fault_of(after):
        raise AssertionError(f"{where}: the result is not valid: {fault}")
    if [*before.graph.input, *before.graph.output] != [*after.graph.input, *after.graph.output]:
        raise AssertionError(f"{where}: the inputs or outputs changed")
    try:
        session = backend.prepare(lower(before))
    except ExecutionError:
        if not variant.what:
            raise
        return report  # an operator that the executor has not at this opset
    feeds = generate_feeds(before, session, n=FEEDS, seed=0).feeds + list(_overriding(before, session))
    if not feeds and not variant.what:
        raise AssertionError(f"{where}: the executor refuses every input")
    result = backend.prepare(lower(after))
    for feed in feeds:
        expected, found = session.run(feed), result.run(feed)
        wrong = differing(expected, found)
        if not all(rtol and _near(expected[name], found.get(name), rtol) for name in wrong):
            shown = {name: (expected[name], found.get(name)) for name in wrong}
            raise AssertionError(f"{where}: outputs differ, before and after: {shown}, on {feed}")
    return report


def _near(expected: Any, found: Any, rtol: float) -> bool:
    a, b = np.asarray(expected), np.asarray(found)
    if a.dtype.kind != "f" or a.shape != b.shape or a.dtype != b.dtype:
        return False
    scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
    return bool(np.allclose(a, b, rtol=rtol, atol=rtol * scale, equal_nan=True))


# ---- the variants


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _types(model: ModelProto) -> dict[str, TypeProto]:
    """The types of the values that nodes compute, as far as onnx infers them."""
    inferred = shape_inference.infer_shapes(model).graph
    return {info.name: info.type for info in (*inferred.value_info, *inferred.output)}


def _other_readers(model: ModelProto, types: dict[str, TypeProto]) -> Iterator[Variant]:
    """Each inner value with another reader, as an output, and captured by a body."""
    outputs = {info.name for info in model.graph.output}
    for name in [name for node in model.graph.node for name in node.output if name and name not in outputs]:
        if name not in types:
            continue
        read = _copy(model)
        read.graph.node.append(helper.make_node("Identity", [name], ["negative_reader"]))
        read.graph.output.append(helper.make_value_info("negative_reader", types[name]))
        yield Variant(f"{name} has another reader", read)
        shown = _copy(model)
        shown.graph.output.append(helper.make_value_info(name, types[name]))
        yield Variant(f"{name} is an output", shown)
        captured = _copy(model)
        captured.graph.node.append(_if([_identity(name)], helper.make_value_info("negative_copy", types[name]), "y"))
        captured.graph.output.append(helper.make_value_info("y_negative", types[name]))
        _add_condition(captured)
        yield Variant(f"{name} is captured by a body", captured)


def _identity(name: str) -> NodeProto:
    return helper.make_node("Identity", [name], ["negative_copy"])


def _if(nodes: list[NodeProto], output: ValueInfoProto, stem: str) -> NodeProto:
    """An If that computes the same in both branches."""
    bodies = []
    for side in ("then", "else"):
        renamed = [_renamed(node, side) for node in nodes]
        info = helper.make_value_info(f"{output.name}_{side}", output.type)
        bodies.append(helper.make_graph(renamed, side, [], [info]))
    return helper.make_node("If", [_CONDITION], [f"{stem}_negative"], then_branch=bodies[0], else_branch=bodies[1])


def _renamed(node: NodeProto, side: str) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.output[:] = [f"{name}_{side}" if name else "" for name in node.output]
    return copy


def _add_condition(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info(_CONDITION, TensorProto.BOOL, []))


def _open_sizes(model: ModelProto) -> Iterator[Variant]:
    """Every dimension of the inputs is a symbol of its own; what outputs declare is left out."""
    copy = _copy(model)
    for info in copy.graph.input:
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            dim.dim_param = f"{info.name}_{axis}"
    for info in copy.graph.output:
        if info.type.HasField("tensor_type"):
            for dim in info.type.tensor_type.shape.dim:
                dim.ClearField("value")
    del copy.graph.value_info[:]
    if copy != model:
        yield Variant("all sizes are open", copy)


def _overridable(model: ModelProto) -> Iterator[Variant]:
    """Each weight is an input with a default."""
    inputs = {info.name for info in model.graph.input}
    for weight in model.graph.initializer:
        if weight.name not in inputs:
            copy = _copy(model)
            copy.ir_version = max(copy.ir_version, 4)
            info = helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
            copy.graph.input.append(info)
            yield Variant(f"{weight.name} can be overridden", copy)


def _overriding(model: ModelProto, session: Any) -> Iterator[dict[str, Any]]:
    """Feeds that override every default with other numbers, as far as the model runs them."""
    defaults = {weight.name: weight for weight in model.graph.initializer}
    ports = {info.name: info.type.tensor_type for info in model.graph.input}
    # a Dropout that is switched on gives what chance wills
    switches = {n.input[2] for n in model.graph.node if n.op_type == "Dropout" and len(n.input) > 2}
    names = [name for name in ports if name in defaults and name not in switches]
    if not names:
        return
    rng = np.random.default_rng(1)
    for feed in generate_feeds(model, session, n=2, seed=1).feeds:
        made = {
            name: (rng.uniform(0.5, 2, list(defaults[name].dims)) * 3).astype(numpy_dtype(defaults[name].data_type))
            for name in names
        }
        try:
            session.run({**feed, **made})
        except ExecutionError:
            continue
        yield {**feed, **made}


def _in_a_body(model: ModelProto) -> Iterator[Variant]:
    """The whole graph is a branch of an If; weights and inputs stay outside."""
    graph = model.graph
    names = {name for node in graph.node for name in node.output}
    if not all(info.name in names for info in graph.output):
        return
    copy = _copy(model)
    del copy.graph.node[:], copy.graph.value_info[:]
    then = helper.make_graph(list(graph.node), "then", [], [_inner(info) for info in graph.output])
    for inner in (*then.node,):
        for slot, name in enumerate(inner.output):
            inner.output[slot] = f"{name}_inside" if name else ""
        for slot, name in enumerate(inner.input):
            inner.input[slot] = f"{name}_inside" if name in names else name
    if any(attribute.type == attribute.GRAPH for inner in then.node for attribute in inner.attribute):
        return  # names that bodies capture would have to be changed too
    other = _copy(model).graph
    for inner in other.node:
        inner.output[:] = [f"{name}_other" if name else "" for name in inner.output]
        inner.input[:] = [f"{name}_other" if name in names else name for name in inner.input]
    outside = [helper.make_value_info(f"{info.name}_other", info.type) for info in graph.output]
    els = helper.make_graph(list(other.node), "else", [], outside)
    copy.graph.node.append(
        helper.make_node("If", [_CONDITION], [o.name for o in graph.output], then_branch=then, else_branch=els)
    )
    _add_condition(copy)
    yield Variant("all lies in a body", copy)


def _inner(info: ValueInfoProto) -> ValueInfoProto:
    return helper.make_value_info(f"{info.name}_inside", info.type)


def _in_a_function(model: ModelProto) -> Iterator[Variant]:
    """The whole graph is a function, its weights Constant nodes."""
    graph = model.graph
    if model.functions or not graph.output or graph.sparse_initializer:
        return
    inputs = [info.name for info in graph.input]
    weights = [helper.make_node("Constant", [], [w.name], value=w) for w in graph.initializer if w.name not in inputs]
    opsets = list(model.opset_import)
    outputs = [info.name for info in graph.output]
    function = helper.make_function("negative", "Whole", inputs, outputs, [*weights, *graph.node], opsets)
    copy = _copy(model)
    del copy.graph.node[:], copy.graph.initializer[:], copy.graph.value_info[:]
    copy.ir_version = max(copy.ir_version, 8)
    copy.functions.append(function)
    copy.opset_import.append(helper.make_opsetid("negative", 1))
    copy.graph.node.append(helper.make_node("Whole", inputs, outputs, domain="negative"))
    yield Variant("all lies in a function", copy)


def _other_opsets(model: ModelProto) -> Iterator[Variant]:
    """The same nodes in the opsets in which one of them is of another version, as far as they are valid there."""
    seen = {_versions(model, _opset(model))}
    for version in range(_LEAST_OPSET, _GREATEST_OPSET + 1):
        versions = _versions(model, version)
        if versions not in seen:
            seen.add(versions)
            copy = _copy(model)
            for entry in copy.opset_import:
                if entry.domain in ("", "ai.onnx"):
                    entry.version = version
            yield Variant(f"the opset is {version}", copy)


def _versions(model: ModelProto, opset: int) -> tuple[int, ...]:
    names = [node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")]
    return tuple(defs.get_schema(name, opset).since_version if defs.has(name, opset) else 0 for name in names)


def _opset(model: ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
