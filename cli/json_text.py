"""Strict JSON: what a number cannot say there is a string."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(data: object) -> str:
    """`data` as indented JSON; infinities and NaN become the strings `inf`, `-inf` and `nan`."""
    return json.dumps(_strict(data), indent=2, allow_nan=False, ensure_ascii=False)


def _strict(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _strict(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_strict(item) for item in data]
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    return data
