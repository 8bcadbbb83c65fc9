"""Attributes of nodes: a source message, and the tensors and graphs inside it as objects of the IR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import AttributeProto, helper

from .tensor import Tensor

if TYPE_CHECKING:
    from .graph import Graph


class Attribute:
    """An immutable attribute.

    `proto` is the message with everything but what `tensor` and `graphs` stand for: those two win at emission.
    """

    __slots__ = ("_outline", "_value", "graphs", "name", "proto", "tensor")

    _outline: bytes
    """What `proto.outline` once wrote of it."""
    _value: Any
    """What was once read from its message."""

    def __init__(self, proto: AttributeProto, tensor: Tensor | None = None, graphs: tuple[Graph, ...] = ()) -> None:
        self.name = proto.name
        self.proto = proto
        self.tensor = tensor
        self.graphs = graphs

    @classmethod
    def of(cls, name: str, value: Any) -> Attribute:
        """An attribute from a Python value: int, float, str, bytes, lists of these, or a Tensor."""
        if isinstance(value, Tensor):
            return cls(AttributeProto(name=name, type=AttributeProto.TENSOR), value)
        if isinstance(value, bool):
            value = int(value)
        return cls(helper.make_attribute(name, value))

    @property
    def ref(self) -> str:
        """The attribute of the enclosing function that this one reads, or an empty string."""
        return self.proto.ref_attr_name

    @property
    def value(self) -> Any:
        """The value: a number, a str (bytes if not UTF-8), lists of these, Tensor, Graph, Graphs, or a message."""
        if self.tensor is not None:
            return self.tensor
        if self.graphs:
            return self.graphs[0] if self.proto.type == AttributeProto.GRAPH else self.graphs
        try:
            found = self._value
        except AttributeError:
            found = self._value = self._read()
        return [*found] if isinstance(found, list) else found

    def _read(self) -> Any:
        value = helper.get_attribute_value(self.proto)
        if isinstance(value, bytes):
            return _text(value)
        if self.proto.type == AttributeProto.STRINGS:
            return [_text(item) for item in value]
        return value if isinstance(value, int | float) else _plain(value)

    def __repr__(self) -> str:
        return f"Attribute({self.name}={self.value!r})"


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _plain(value: Any) -> Any:
    """Lists of numbers as lists; messages as they are."""
    return value if hasattr(value, "DESCRIPTOR") else list(value)
