"""The pass run over models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import ModelProto, checker

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower, verify
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert

Array = np.ndarray[Any, np.dtype[Any]]


class Quantized(NamedTuple):
    model: ModelProto
    report: Report


@pytest.fixture(scope="session")
def quantize() -> Callable[..., Quantized]:
    """Run the pass with options; the result is verified, and checked in full."""

    def run(proto: ModelProto, *, path: Path | None = None, full_check: bool = True, **options: Any) -> Quantized:
        lowered = lower(proto, path)
        report = PassManager([QuantizeInsert(**options)], backend=OrtBackend()).run(lowered)
        verify(lowered)
        made = emit(lowered)
        checker.check_model(made, full_check=full_check)
        return Quantized(made, report)

    return run
