"""Whether onnx itself takes a model for valid."""

from __future__ import annotations

from onnx import ModelProto, checker, shape_inference


def fault_of(model: ModelProto) -> str:
    """What `onnx.checker` (full check, types included) has against a model; an empty string if nothing.

    Types are left out where an initializer is sparse: onnx infers another type for it than for a dense one.
    """
    try:
        checker.check_model(model, full_check=not model.graph.sparse_initializer)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        return str(error)
    return ""
