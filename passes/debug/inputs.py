"""The inputs of a reduced model as an .npz file that `--data` takes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ...ir.tensor import Array
from .lab import Feeds


def inputs_npz(feeds: Feeds) -> bytes | None:
    """The bytes of a file with one array for each input and sample (`NAME@0`, ...).

    None if there is nothing to store, or if an input is no tensor, which such a file cannot hold.
    """
    if not any(feeds) or any(not isinstance(value, np.ndarray) for feed in feeds for value in feed.values()):
        return None
    arrays = {f"{name}@{index}": _storable(value) for index, feed in enumerate(feeds) for name, value in feed.items()}
    buffer = io.BytesIO()
    save: Any = np.savez  # its stub takes no mapping whose keys might be options
    save(buffer, **arrays)
    return buffer.getvalue()


def _storable(array: Array) -> Array:
    """Strings as unicode arrays, which need no pickling."""
    return array.astype(np.str_) if array.dtype == object else array
