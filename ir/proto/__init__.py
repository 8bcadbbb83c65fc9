"""Lowering from protobuf messages into the IR, and emission back."""

from .emit import emit, strip_weights
from .lower import lower
from .size import file_size

__all__ = ["emit", "file_size", "lower", "strip_weights"]
