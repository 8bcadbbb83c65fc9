"""The inputs of a model as ports: what a feed must look like, known without an executor."""

from __future__ import annotations

from .analysis.shapes import shape_of
from .backend import Port
from .model import Model
from .value import Value


def input_ports(model: Model) -> tuple[Port, ...]:
    """The inputs of the main graph; those with a default are optional."""
    return tuple(_port(value) for value in model.graph.inputs)


def _port(value: Value) -> Port:
    type_ = value.type
    if type_ is None or not type_.HasField("tensor_type"):
        return Port(value.name, None, None, value.tensor is not None)
    return Port(value.name, type_.tensor_type.elem_type, shape_of(type_), value.tensor is not None)
