"""The demo's network and images, read from the installed package.

`examples/train_digits.py` made the files; README.md beside them tells where the images come from and their split.
"""

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INPUT, OUTPUT = "image", "logits"


def model_bytes() -> bytes:
    """The serialized ONNX model: `image` float32 [batch, 1, 8, 8], pixels 0 to 16 -> `logits` float32 [batch, 10]."""
    return _resource("digits.onnx").read_bytes()


def model_path() -> AbstractContextManager[Path]:
    """The model as a file on disk, even if the package is imported from a zip; the path is valid inside the `with`."""
    return as_file(_resource("digits.onnx"))


def calibration() -> "dict[str, NDArray[np.float32]]":
    """Calibration feeds, `{"image": [128, 1, 8, 8]}`; the network saw none of them in training."""
    return {INPUT: _arrays("calib.npz")[INPUT].astype("float32", copy=False)}


def test_set() -> "tuple[NDArray[np.float32], NDArray[np.int64]]":
    """Images [645, 1, 8, 8] and their digits [645], used neither for training nor for calibration."""
    arrays = _arrays("test.npz")
    return arrays["image"].astype("float32"), arrays["label"].astype("int64")


def accuracy(logits: "NDArray[np.float32]", labels: "NDArray[np.int64]") -> float:
    """The share of rows of `logits` [n, classes], n > 0, that are largest at `labels` [n]; a row with a NaN is wrong.

    Raises ValueError where the shapes do not fit.
    """
    import numpy as np

    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"accuracy needs logits [n, classes] and labels [n], n > 0, not {logits.shape}, {labels.shape}"
        )
    right = logits.argmax(axis=1) == labels
    return float(np.mean(right & ~np.isnan(logits).any(axis=1)))


def _resource(name: str) -> Traversable:
    return files(__package__) / name


def _arrays(name: str) -> "dict[str, NDArray[np.generic]]":
    import numpy as np

    with _resource(name).open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}
