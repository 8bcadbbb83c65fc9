"""Every value of a run, in bodies and functions too: onnx's reference evaluator with eyes and hands.

A run can compute in float64 instead of the types of the model (its *twin*), shake every operation by noise of the size
of its rounding, and put known values in the place of computed ones, so that what comes after is judged by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper

from ..backends.reference import Evaluator, adapt
from ..errors import ExecutionError

Scope = tuple[tuple[str, int], ...]
"""A run of a graph: the nodes around it by first output, each with how often its body or function ran before."""
Key = tuple[Scope, str]
"""A value of one run of its graph."""
Slot = tuple[tuple[str, ...], str]
"""A value of its graph, whatever the run."""

MOVES = frozenset(
    [
        "Identity",
        "Transpose",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "Concat",
        "Split",
        "Gather",
        "Expand",
        "Pad",
        "Tile",
        "Constant",
        "ConstantOfShape",
        "Cast",
        "Neg",
        "Abs",
        "Relu",
        "Max",
        "Min",
        "Clip",
        "Where",
        "Dropout",
        "Shape",
        "If",
        "Loop",
        "Scan",
        "MaxPool",
    ]
)
"""Operators that round nothing: they pick, move or negate, or hold others that round."""


def slot_of(key: Key) -> Slot:
    """The value of the graph that a value of a run is."""
    return tuple(name for name, _ in key[0]), key[1]


def is_real(value: Any) -> bool:
    """Whether a value is an array of floating-point numbers of numpy."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def unit_of(dtype: np.dtype[Any]) -> float:
    """The unit roundoff of a floating-point type."""
    return float(np.finfo(dtype).eps) / 2


@dataclass
class Record:
    """What a run computed."""

    values: dict[Key, Any] = field(default_factory=dict)
    """Every value as computed, before a known one took its place; inputs and constants too."""
    labels: dict[Key, str] = field(default_factory=dict)
    """The labels of their graphs."""
    varying: set[Slot] = field(default_factory=set)
    """Those that depend on an input."""

    def find(self, scope: Scope, name: str) -> Any:
        """A value as a run of a graph sees it, there or in a graph around; None if it has none."""
        for depth in range(len(scope), -1, -1):
            if (scope[:depth], name) in self.values:
                return self.values[scope[:depth], name]
        return None

    def varies(self, scope: Scope, name: str) -> bool:
        """Whether a value, as a run of a graph sees it, depends on an input."""
        path = slot_of((scope, name))[0]
        return any((path[:depth], name) in self.varying for depth in range(len(path) + 1))


@dataclass(frozen=True)
class Noise:
    """Random errors of the size of rounding: of float64, or where `native` of the type that the model computes in.

    `rounded` are constants, by content, that are as good as the numbers next to them.
    """

    seed: int
    native: bool
    rounded: Collection[bytes] = ()


@dataclass(frozen=True)
class Mode:
    """How to run."""

    twin: bool = False
    noise: Noise | None = None
    known: Mapping[Key, Any] = field(default_factory=dict)
    forced: Collection[Slot] = ()
    """Where known values take the place of those computed."""


class Tracer:
    """A model that can be run in several modes; ExecutionError if the reference evaluator refuses it."""

    def __init__(self, proto: ModelProto) -> None:
        copy = ModelProto()
        copy.CopyFrom(proto)
        adapt(copy)
        self.outputs = [info.name for info in copy.graph.output]
        self.dtypes: dict[Slot, np.dtype[Any]] = {}
        """The types that the model computes in, known once it has run without a twin."""
        evaluator = type("Traced", (_Traced,), {"tracer": self})
        try:
            self._evaluator = evaluator(copy)
        except Exception as error:
            raise ExecutionError(f"the reference evaluator refuses the model: {error}") from error

    def run(self, feed: Mapping[str, Any], mode: Mode) -> Record:
        """Run once; ExecutionError if the evaluator refuses the feed."""
        self.mode, self.record = mode, Record()
        self._around: list[tuple[Scope, str, set[str]]] = []
        self._holder: list[tuple[NodeProto, Counter[str]]] = []
        self._rng = np.random.default_rng(mode.noise.seed if mode.noise else 0)
        try:
            with np.errstate(all="ignore"):
                self._evaluator.run(None, dict(feed))
        except Exception as error:
            raise ExecutionError(f"the reference evaluator refuses the feed: {error}") from error
        return self.record

    # ---- one graph

    def graph(self, graph: _Traced, fed: Mapping[str, Any], attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        """Run the nodes of one graph, of the model or of a body or function in it."""
        scope, label, varying = self._enter(graph)
        inits = {name: self._constant(value) for name, value in graph.rt_inits_.items()}
        results: dict[str, Any] = {"": None, **inits}
        results.update({name: self._widened(value) for name, value in fed.items()})
        for name in (*graph.input_names, *inits):
            self._note((scope, name), results.get(name), label, varies=name in varying)
        self._around.append((scope, label, varying))
        runs: Counter[str] = Counter()
        for node in graph.rt_nodes_:
            self._holder.append((node.onnx_node, runs))
            outputs = self._node(node, [results[name] for name in node.input], results, attributes)
            self._holder.pop()
            varies = bool(varying.intersection(node.input)) or any(map(_has_body, node.onnx_node.attribute))
            for name, value in zip(node.output, outputs, strict=False):
                if varies:
                    varying.add(name)
                self._note((scope, name), value, label, varies=varies)
                results[name] = self._forced((scope, name), value)
        self._around.pop()
        return results

    def _enter(self, graph: _Traced) -> tuple[Scope, str, set[str]]:
        varying = set(graph.input_names)
        if not self._around:
            return (), "main", varying
        scope, label, outer = self._around[-1]
        node, runs = self._holder[-1]
        name = node.output[0]
        runs[name] += 1
        inner = (*scope, (name, runs[name] - 1))
        if isinstance(graph.proto_, GraphProto):
            called = node.name or f"{node.op_type}:{name}"
            return inner, f"{label}/{called}.{graph.place}", varying | outer
        domain = getattr(graph.proto_, "domain", "")
        return inner, f"function {domain}.{getattr(graph.proto_, 'name', '')}", varying

    def _note(self, key: Key, value: Any, label: str, *, varies: bool) -> None:
        self.record.values[key] = value
        self.record.labels[key] = label
        if varies:
            self.record.varying.add(slot_of(key))
        if not self.mode.twin and isinstance(value, np.ndarray):
            self.dtypes.setdefault(slot_of(key), value.dtype)

    def _forced(self, key: Key, value: Any) -> Any:
        known = self.mode.known.get(key)
        if known is None or slot_of(key) not in self.mode.forced:
            return value
        alike = isinstance(known, np.ndarray) and isinstance(value, np.ndarray) and known.shape == value.shape
        return self._widened(known) if alike else value

    # ---- one node

    def _node(self, node: Any, inputs: list[Any], results: dict[str, Any], attributes: Any) -> list[Any]:
        mode, noise = self.mode, self.mode.noise
        rounds = node.op_type not in MOVES and (node.domain, node.op_type) not in self._evaluator.functions_
        unit = self._unit(node) if noise and rounds else 0.0
        if unit:  # constants are exact, or shaken where they were computed: a square is no power of 2.0000001
            varying = self._around[-1][2]
            read = zip(node.input, inputs, strict=True)
            inputs = [self._shaken(value, unit) if name in varying else value for name, value in read]
        kwargs = {"linked_attributes": attributes} if node.has_linked_attribute and attributes else {}

        def run(values: Sequence[Any]) -> list[Any]:
            more = {"context": results} if node.need_context() else {}
            return [_array(value) for value in node.run(*values, **more, **kwargs)]

        if not mode.twin:
            return run(inputs)
        if node.op_type == "Cast" and is_real(inputs[0]) and self._widens(node):
            return list(inputs)
        if node.op_type == "Constant":
            return [self._constant(value) for value in run(inputs)]
        outputs = self._in_twin(node, inputs, run)
        reads_real = any(map(is_real, inputs))
        made = []
        for value in outputs:
            narrow = reads_real and is_real(value) and value.dtype != np.float64 and not _holds(node)
            at = max(unit, unit_of(value.dtype)) if narrow and noise else unit
            made.append(self._shaken(self._widened(value), at) if at else self._widened(value))
        return made

    def _in_twin(self, node: Any, inputs: list[Any], run: Callable[[Sequence[Any]], list[Any]]) -> list[Any]:
        """The results in float64, or in the types of the model if the evaluator knows the operator in those alone."""
        if not _holds(node):
            try:
                return run(inputs)
            except Exception:
                return run([self._native(name, value) for name, value in zip(node.input, inputs, strict=True)])
        return run(inputs)

    def _slot(self, name: str) -> Slot:
        return tuple(name for name, _ in self._around[-1][0]), name

    def _dtype(self, name: str) -> np.dtype[Any]:
        """The type of a value as the model computes it, looked for from here outwards; float32 if it is not known."""
        path, _ = self._slot(name)
        for depth in range(len(path), -1, -1):
            if (path[:depth], name) in self.dtypes:
                return self.dtypes[path[:depth], name]
        return np.dtype(np.float32)

    def _native(self, name: str, value: Any) -> Any:
        if not is_real(value):
            return value
        dtype = self._dtype(name)
        return value.astype(dtype if dtype.kind == "f" else np.float32)

    def _widens(self, node: Any) -> bool:
        target = helper.tensor_dtype_to_np_dtype(node.to)
        return bool(target.kind == "f" and target.itemsize >= self._dtype(node.input[0]).itemsize)

    def _unit(self, node: Any) -> float:
        """The unit roundoff of a node: what depends on no input is computed once, in the types of the model."""
        assert self.mode.noise is not None
        varying = self._around[-1][2]
        if not self.mode.noise.native and varying.intersection(node.input):
            return unit_of(np.dtype(np.float64))
        dtypes = [self._dtype(name) for name in (*node.input, *node.output) if name]
        return max((unit_of(dtype) for dtype in dtypes if dtype.kind == "f"), default=0.0)

    def _shaken(self, value: Any, unit: float) -> Any:
        """A value with relative errors of once to twice `unit`, and absolute ones of the size of an underflow."""
        if not is_real(value):
            return value
        signs = self._rng.choice([-1.0, 1.0], (2, *value.shape))
        sizes = self._rng.uniform(1, 2, value.shape)
        least = 1e-300 if unit < 1e-10 else 1e-45 if unit < 1e-5 else 6e-8
        return np.asarray(value * (1 + signs[0] * sizes * unit) + signs[1] * sizes * least)

    def _constant(self, value: Any) -> Any:
        value = _array(value)
        noise = self.mode.noise
        shakes = noise is not None and is_real(value) and content_of(value) in noise.rounded
        wide = self._widened(value)
        if not shakes:
            return wide
        exact = _is_short(value)
        return np.asarray(np.where(exact, wide, self._shaken(wide, unit_of(value.dtype))))

    def _widened(self, value: Any) -> Any:
        return value.astype(np.float64) if self.mode.twin and is_real(value) else value

    # ---- both models

    def constants(self) -> set[bytes]:
        """The contents of all floating-point constants, in bodies and functions too."""
        found: set[bytes] = set()
        todo: list[_Traced] = [self._evaluator, *self._evaluator.functions_.values()]
        while todo:
            graph = todo.pop()
            values = [_array(value) for value in graph.rt_inits_.values()]
            for node in graph.rt_nodes_:
                bodies = [getattr(node, a.name) for a in node.onnx_node.attribute if _has_body(a)]
                todo += bodies
                if node.op_type == "Constant":
                    values += [np.asarray(_held(a)) for a in node.onnx_node.attribute if a.type in _HELD]
            found |= {content_of(value) for value in values if is_real(value)}
        return found


class _Traced(Evaluator):
    """An evaluator that leaves its nodes to a tracer; bodies and functions are of the same class."""

    tracer: ClassVar[Tracer]
    place = ""
    """The attribute that a body stands in."""

    def _init(self) -> None:
        super()._init()
        for node in self.rt_nodes_:
            for attribute in node.onnx_node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    getattr(node, attribute.name).place = attribute.name

    def run(
        self,
        output_names: Any,
        feed_inputs: dict[str, Any],
        attributes: dict[str, Any] | None = None,
        intermediate: bool = False,
        check_shape_annotations: bool | None = None,
        _bindings: Any = None,
    ) -> list[Any]:
        results = self.tracer.graph(self, feed_inputs, attributes)
        return [results[name] for name in (self.output_names if output_names is None else output_names)]


def content_of(array: Any) -> bytes:
    """What tells one constant from another."""
    data: bytes = array.tobytes()
    return repr((array.dtype.str, array.shape)).encode() + data


_HELD = (AttributeProto.TENSOR, AttributeProto.FLOAT, AttributeProto.FLOATS)


def _held(attribute: AttributeProto) -> Any:
    """The elements of a Constant, if it is not sparse."""
    if attribute.type == AttributeProto.TENSOR:
        return numpy_helper.to_array(attribute.t)
    return np.array(attribute.floats if attribute.type == AttributeProto.FLOATS else attribute.f, np.float32)


def _array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.generic | float | int) else value


def _is_short(array: Any) -> Any:
    """Elements with few digits, which nobody rounded to get them: 0, 1, 0.5, 3, ..."""
    digits = 2.0 ** (4 if array.dtype == np.float16 else 10)
    fraction = np.frexp(array.astype(np.float64))[0] * digits
    return ~np.isfinite(fraction) | (fraction == np.floor(fraction))


def _has_body(attribute: AttributeProto) -> bool:
    return attribute.type == AttributeProto.GRAPH


def _holds(node: Any) -> bool:
    """Whether a node runs other nodes of the model."""
    return bool(node.has_subgraph) or (
        isinstance(getattr(node, "impl_", None), _Traced) and isinstance(node.impl_.proto_, FunctionProto)
    )
