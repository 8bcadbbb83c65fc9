"""How well the ranges of each method represent values on samples that they were not made with, beside onnxruntime's.

    python bench/calibrate_ranges.py MODEL.onnx --data CALIB.npz [--samples 32] [--bits 8]

Ranges are made on the first half of the samples, and numbers of the second half quantized with them, affine, per value.
Prints over the results of all nodes that are floats: the SQNR (signal to quantization noise) in dB that half of them,
and nine tenths of them, reach or surpass; the share of numbers that saturate; CPU seconds. onnxruntime's calibrators
are run with the settings that `quantize_static` gives them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from onnxpress import load
from onnxpress.api import samples_for
from onnxpress.backends.interface import Pins
from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Rewriter, Value
from onnxpress.passes.calibrate.calibrate import calibrate, saturation
from onnxpress.passes.calibrate.ranges import Range
from onnxpress.passes.calibrate.statistics import METHODS
from onnxpress.passes.calibrate.stream import observe
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.remarks import Remarks
from onnxpress.passes.manager.weights import WeightAccount

THEIRS = ("MinMax", "Percentile", "Entropy")


class Noise:
    """Observes what a quantizer of a range errs."""

    def __init__(self, within: Range, bits: int) -> None:
        self.most = 2**bits - 1
        self.step = (within.high - within.low) / self.most
        self.least = round(within.low / self.step) if self.step else 0
        self.signal = self.noise = 0.0

    def update(self, array: np.ndarray) -> None:
        x = array.astype(np.float64)
        levels = np.clip(np.rint(x / self.step), self.least, self.least + self.most) if self.step else 0
        self.signal += float(np.square(x).sum())
        self.noise += float(np.square(x - self.step * levels).sum())

    @property
    def sqnr(self) -> float:
        return 10 * np.log10(self.signal / self.noise) if self.noise else np.inf


class Bench:
    """A model, and the two halves of its samples."""

    def __init__(self, path: Path, data: str, samples: int, bits: int) -> None:
        self.path, self.bits = path, bits
        model, self.backend = load(path), OrtBackend()
        feeds = list(islice(iter(samples_for(model, data, self.backend, Pins(), 0)), samples))
        self.first, self.second = feeds[::2], feeds[1::2]
        self.ctx = Context(model, Rewriter(model), self.backend, Remarks(), WeightAccount(model), self.first)
        shapes = self.ctx.shapes()
        self.values = {v.name: v for node in model.graph.nodes for v in node.outputs if shapes.dtype(v) == 1}

    def ours(self, method: Any) -> dict[str, Range]:
        found = calibrate(self.ctx, self.values.values(), method=method, bits=self.bits)
        return {value.name: within for value, within in found.items()}

    def theirs(self, method: str) -> dict[str, Range]:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self, feeds: Sequence[Mapping[str, Any]]) -> None:
                self.feeds = iter(feeds)

            def get_next(self) -> Any:
                return next(self.feeds, None)

        with tempfile.TemporaryDirectory() as folder:
            kind = getattr(CalibrationMethod, method)
            calibrator = create_calibrator(self.path, None, f"{folder}/augmented.onnx", kind)
            calibrator.collect_data(Reader(self.first))
            found = calibrator.compute_data().data
        ends = {name: [float(np.min(end)) for end in data.range_value] for name, data in found.items()}
        return {name: Range.around(*ends[name]) for name in self.values if name in ends}

    def row(self, name: str, ranges: Mapping[str, Range], seconds: float) -> str:
        by_value: dict[Value, Range] = {self.values[value]: within for value, within in ranges.items()}
        noise = {value: Noise(within, self.bits) for value, within in by_value.items()}
        observe(self.ctx, {value: [one] for value, one in noise.items()}, purpose="noise", samples=self.second)
        outside = saturation(self.ctx, by_value, samples=self.second).values()
        share = sum(one.below + one.above for one in outside) / sum(one.count for one in outside)
        half, most = np.percentile([one.sqnr for one in noise.values()], [50, 10], method="lower")
        return f"{name:24} {half:10.2f} {most:10.2f} {share:12.2e} {seconds:8.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--bits", type=int, default=8)
    asked = parser.parse_args()
    bench = Bench(asked.model, asked.data, asked.samples, asked.bits)
    print(f"{'':24} {'half, dB':>10} {'9 of 10':>10} {'saturated':>12} {'CPU s':>8}")
    for tool, methods, make in (("onnxpress", METHODS, bench.ours), ("onnxruntime", THEIRS, bench.theirs)):
        for method in methods:
            started = time.process_time()
            try:
                ranges = make(method)
            except ValueError as error:  # onnxruntime's, of samples that differ in shape
                print(f"{tool} {method}: {str(error)[:80]}")
                continue
            print(bench.row(f"{tool} {method}", ranges, time.process_time() - started), flush=True)


if __name__ == "__main__":
    main()
