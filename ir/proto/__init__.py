"""Lowering from protobuf messages into the IR, and emission back."""

from .emit import emit, strip_weights
from .lower import lower
from .size import constant_size, file_size, initializer_size, node_size

__all__ = ["constant_size", "emit", "file_size", "initializer_size", "lower", "node_size", "strip_weights"]
