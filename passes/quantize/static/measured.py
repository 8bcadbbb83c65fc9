"""Costs measured on this host: every unit alone, in float and in integers, in interleaved runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf, prod
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ....errors import ExecutionError
from ....ir import Backend, Rewriter, Session, Value, lower
from ...manager.deployed import deployed
from .alone import Alone, Feed, Shape
from .estimated import EstimatedCosts
from .spelled import SPELLINGS, is_apart
from .timing import interleaved
from .units import Unit

SECONDS = 0.06
"""How long two versions of a unit are timed."""
_SMALL, _LARGE = 1 << 10, 1 << 18


@dataclass
class MeasuredCosts:
    """Times on the executor `backend`; equal units are measured once."""

    backend: Backend
    alone: Alone
    shapes: Mapping[Value, Shape]
    _units: dict[Any, tuple[float, float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Measure what crossing costs a number."""
        self._table = EstimatedCosts(self.alone.emitter.profile, self.shapes)
        self._quantize = self._crossing("QuantizeLinear")
        self._decode = self._crossing("DequantizeLinear")

    def unit(self, unit: Unit) -> tuple[float, float]:
        """Microseconds of a unit in float and in integers; infinity where the executor does not run it."""
        as_it_is, spelled, in_integers = self.times(unit)
        return min(as_it_is, spelled), in_integers - self.apart(unit)

    def apart(self, unit: Unit) -> float:
        """Microseconds more of a unit in integers without the layout of integer convolutions, which it does not have
        alone; what it takes with it is in the target's table."""
        in_integers = self.times(unit)[2]
        if not self._table.apart(unit) or in_integers == inf:
            return 0.0
        return max(0.0, in_integers - self._table.unit(unit)[1])

    def spells(self, unit: Unit) -> bool:
        """Whether a unit in float is faster spelled out."""
        as_it_is, spelled, _ = self.times(unit)
        return spelled < as_it_is

    def times(self, unit: Unit) -> tuple[float, float, float]:
        """In float as it is, spelled out (infinite where it is no matter), and in integers."""
        key = self._key(unit)
        if key not in self._units:
            if any(shape is None for shape in key[2]):
                return 0.0, inf, 0.0
            try:
                versions = [self._prepared(*make(unit)) for make in (self.alone.in_float, self.alone.in_integers)]
                if is_apart(unit, self.shapes):
                    versions.append(self._spelled(unit))
                in_float, in_integers, *spelled = _times(versions)
                self._units[key] = in_float, min(spelled, default=inf), in_integers
            except ExecutionError:
                self._units[key] = 0.0, inf, inf
        return self._units[key]

    def quantize(self, value: Value) -> float:
        """Microseconds of quantizing a value."""
        return self._quantize[0] + self._quantize[1] * prod(self.shapes[value])

    def decode(self, value: Value) -> float:
        """Microseconds of decoding a value."""
        return self._decode[0] + self._decode[1] * prod(self.shapes[value])

    def _key(self, unit: Unit) -> Any:
        node = unit.node
        attributes = tuple(sorted((name, one.proto.SerializeToString()) for name, one in node.attributes.items()))
        shapes = tuple(() if value is None else self._shape(value) for value in node.inputs)
        return node.op_type, attributes, shapes, None if unit.tail is None else unit.tail.op_type

    def _shape(self, value: Value) -> Any:
        """What tells times apart; None for what was not observed, as computed sizes are not."""
        return ("constant", value.const.shape) if value.const is not None else self.shapes.get(value)

    def _spelled(self, unit: Unit) -> tuple[Session, Feed]:
        proto, feed = self.alone.in_float(unit)
        model = lower(proto)
        node = next(node for node in model.graph.nodes if node.op_type in SPELLINGS)
        SPELLINGS[node.op_type](Rewriter(model), node)
        return deployed(self.backend, model), feed

    def _prepared(self, proto: Any, feed: Feed) -> tuple[Session, Feed]:
        return deployed(self.backend, lower(proto)), feed

    def _crossing(self, op_type: str) -> tuple[float, float]:
        """Microseconds of a node at all, and of each number."""
        small, large = (self._timed_crossing(op_type, size) for size in (_SMALL, _LARGE))
        each = max(0.0, large - small) / (_LARGE - _SMALL)
        return 1.0, each

    def _timed_crossing(self, op_type: str, size: int) -> float:
        types = (TensorProto.FLOAT, TensorProto.UINT8)
        source, target = types if op_type == "QuantizeLinear" else types[::-1]
        held = [
            helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
            helper.make_tensor("z", TensorProto.UINT8, [], [3]),
        ]
        graph = helper.make_graph(
            [helper.make_node(op_type, ["x", "s", "z"], ["y"])],
            "crossing",
            [helper.make_tensor_value_info("x", source, [size])],
            [helper.make_tensor_value_info("y", target, [size])],
            held,
        )
        opsets = [helper.make_opsetid("", self.alone.opset)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=self.alone.ir_version)
        x = np.zeros(size, np.float32 if op_type == "QuantizeLinear" else np.uint8)
        return _times([self._prepared(proto, {"x": x})])[0]


def _times(versions: Sequence[tuple[Session, Feed]]) -> tuple[float, ...]:
    """The median times of sessions in microseconds, in interleaved runs."""
    runs = [partial(session.run, feed) for session, feed in versions]
    taken = interleaved(runs, seconds=SECONDS, least=5, most=500)
    return tuple(float(np.median(times)) * 1e6 for times in taken)
