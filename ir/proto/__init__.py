"""Lowering from protobuf messages into the IR, and emission back."""

from .emit import emit, strip_weights
from .lower import lower
from .outline import outline
from .size import FileMeter, constant_size, file_size, initializer_size, node_size

__all__ = [
    "FileMeter",
    "constant_size",
    "emit",
    "file_size",
    "initializer_size",
    "lower",
    "node_size",
    "outline",
    "strip_weights",
]
