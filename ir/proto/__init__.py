"""Lowering from protobuf messages into the IR, and emission back."""

from .emit import emit, strip_weights
from .lower import lower

__all__ = ["emit", "lower", "strip_weights"]
