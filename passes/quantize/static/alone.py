"""One unit as a model of its own, in float and in integers: what a timing compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ....ir import Value
from ...calibrate.ranges import Array
from .affine import Affine
from .emit import Emitter
from .units import Unit

Shape = tuple[int, ...]
Feed = dict[str, Array]


@dataclass
class Alone:
    """Writes models of single units, at the sizes `shapes` of the values."""

    emitter: Emitter
    shapes: Mapping[Value, Shape]
    opset: int
    ir_version: int

    def in_float(self, unit: Unit) -> tuple[ModelProto, Feed]:
        """The unit as it is, and a feed."""
        sheet = _Sheet()
        names = {slot: self._float_input(sheet, value) for slot, value in unit.inputs}
        for slot, value in enumerate(unit.node.inputs):
            if value is not None and slot not in names:
                names[slot] = self._float_input(sheet, value)
        outputs = self._body(sheet, unit, names)
        return self._model(sheet, unit, outputs)

    def in_integers(self, unit: Unit) -> tuple[ModelProto, Feed]:
        """The unit between values that are quantized already, and a feed."""
        sheet, of = _Sheet(), self.emitter.of
        names = {slot: self._integer_input(sheet, value, of[value]) for slot, value in unit.inputs}
        if unit.weight >= 0:
            self._weight(sheet, unit, names)
        for slot, value in enumerate(unit.node.inputs):
            if value is not None and slot not in names:
                names[slot] = self._float_input(sheet, value)
        outputs = self._body(sheet, unit, names)
        if not unit.leaves_float:
            outputs = [sheet.quantized(name, of[value]) for name, value in zip(outputs, unit.outputs, strict=True)]
        return self._model(sheet, unit, outputs)

    def _float_input(self, sheet: _Sheet, value: Value) -> str:
        if value.const is not None:
            return sheet.constant(value.const.numpy())
        rng = np.random.default_rng(0)
        return sheet.input(rng.standard_normal(self.shapes[value]).astype(np.float32))

    def _integer_input(self, sheet: _Sheet, value: Value, affine: Affine) -> str:
        if value.const is not None:
            return sheet.decoded(sheet.constant(affine.levels(value.const.numpy())), affine)
        info = np.iinfo(affine.dtype)
        rng = np.random.default_rng(0)
        levels = rng.integers(info.min, info.max, self.shapes[value], affine.dtype, endpoint=True)
        return sheet.decoded(sheet.input(levels), affine)

    def _weight(self, sheet: _Sheet, unit: Unit, names: dict[int, str]) -> None:
        coded = self.emitter.coded(unit)
        zeros = np.zeros(coded.scales.shape, np.int8)
        held = [sheet.constant(array) for array in (coded.levels, coded.scales, zeros)]
        names[unit.weight] = sheet.node("DequantizeLinear", held, axis=coded.axis)
        if coded.bias is not None:
            scales = coded.scales * np.float32(self.emitter.of[unit.inputs[0][1]].scale)
            held = [sheet.constant(coded.bias), sheet.constant(scales)]
            names[unit.bias] = sheet.node("DequantizeLinear", held, axis=0)

    def _body(self, sheet: _Sheet, unit: Unit, names: Mapping[int, str]) -> list[str]:
        node = unit.node
        inputs = ["" if value is None else names[slot] for slot, value in enumerate(node.inputs)]
        outputs = sheet.copy(node, inputs)
        if unit.tail is not None:
            rest = [
                "" if value is None or value.const is None else sheet.constant(value.const.numpy())
                for value in unit.tail.inputs[1:]
            ]
            outputs = sheet.copy(unit.tail, [outputs[0], *rest])
        return outputs

    def _model(self, sheet: _Sheet, unit: Unit, outputs: list[str]) -> tuple[ModelProto, Feed]:
        results = [ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(sheet.nodes, "unit", sheet.inputs, results, sheet.held)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=max(4, self.ir_version))
        return model, sheet.feed


class _Sheet:
    """A graph being written."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.held: list[TensorProto] = []
        self.feed: Feed = {}
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def input(self, array: Array) -> str:
        name = self._name()
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, dtype, array.shape))
        self.feed[name] = array
        return name

    def constant(self, array: Array) -> str:
        name = self._name()
        self.held.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def node(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        name = self._name()
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def copy(self, node: Any, inputs: list[str]) -> list[str]:
        names = [self._name() if value.name else "" for value in node.outputs]
        made = helper.make_node(node.op_type, inputs, names)
        made.attribute.extend(attribute.proto for attribute in node.attributes.values())
        self.nodes.append(made)
        return names

    def decoded(self, name: str, affine: Affine) -> str:
        return self.node("DequantizeLinear", [name, *self._parameters(affine)])

    def quantized(self, name: str, affine: Affine) -> str:
        return self.node("QuantizeLinear", [name, *self._parameters(affine)])

    def _parameters(self, affine: Affine) -> list[str]:
        return [self.constant(np.array(affine.scale, np.float32)), self.constant(np.array(affine.zero, affine.dtype))]
