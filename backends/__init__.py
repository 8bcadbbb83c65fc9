"""The world outside: files, executors, sample data, and the comparison of two models."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..ir.backend import Backend


def default_backend() -> Backend:
    """The executor that is used where nobody names one: onnxruntime on the CPU."""
    from .ort import OrtBackend

    return OrtBackend()
