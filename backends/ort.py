"""onnxruntime as the executor. It is loaded when something is to be run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx

from ..ir import Model

if TYPE_CHECKING:
    from .ort_session import OrtSession

INLINE_BELOW = 1 << 26
"""Bytes of a message up to which onnxruntime gets the weights inside it; above, it would hold four copies of them."""


class Limits(NamedTuple):
    """The newest versions that an executor loads."""

    opset: int
    ir_version: int


class OrtBackend:
    """Runs models on the CPU.

    Weights of a message above `inline_below` bytes are handed over from memory, so that one copy of them remains;
    external data are mapped by onnxruntime itself, without a copy.
    """

    def __init__(self, inline_below: int = INLINE_BELOW) -> None:
        self.inline_below = inline_below

    @property
    def name(self) -> str:
        """`onnxruntime` and its version."""
        return f"onnxruntime {_version()}"

    @property
    def limits(self) -> Limits:
        """The newest opset and IR version that it loads, found out by trying."""
        from .ort_session import limits

        return limits()

    def prepare(
        self, model: Model, *, outputs: Sequence[str] | None = None, optimize: bool = False, threads: int = 1
    ) -> OrtSession:
        """Make `model` ready to run.

        `outputs` may name any values of the main graph; then only what they need is run, and only the inputs that they
        need are asked for. `optimize=False` is the reference configuration (graph optimizations and prepacking off,
        one thread), True the deployment session on `threads` threads. Raises ExecutionError if onnxruntime refuses
        the model.
        """
        from .ort_session import prepare

        return prepare(model, outputs, optimize=optimize, threads=threads, inline_below=self.inline_below)


def versions() -> dict[str, str]:
    """The versions that results depend on."""
    return {"onnxruntime": _version(), "onnx": onnx.__version__, "numpy": np.__version__}


@cache
def _version() -> str:
    """The version of onnxruntime, read from what is installed; from itself where it goes by another name."""
    try:
        return version("onnxruntime")
    except PackageNotFoundError:
        import onnxruntime

        return str(onnxruntime.__version__)
