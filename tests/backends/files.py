"""What is in files and folders, and what loading one complains of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxpress.backends.files import load_model
from onnxpress.errors import UserError
from onnxpress.ir import Model, Rewriter, Tensor


def complaint(path: Path) -> str:
    """What loading complains of: one line that begins with the file."""
    with pytest.raises(UserError) as caught:
        load_model(path)
    words = str(caught.value)
    assert words.startswith(f"{path}: ")
    assert "\n" not in words
    return words


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The initializers of the main graph as onnx itself reads them."""
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}


def change(model: Model, name: str, new: Tensor) -> None:
    value = next(value for value in model.graph.initializers if value.name == name)
    Rewriter(model).set_tensor(value, new)
