"""What a pipeline makes of real models: size, time of each pass, latency.

    python bench/real_models.py MODEL.onnx ... [-p PIPELINE] [--shape NAME=1x3x48x320] [--value NAME=16000]

One block of lines a model: the file's bytes before and after, the seconds of every pass, and how long one run of the
result takes against one of the original (median of interleaved runs, one thread, optimizations on). `--shape` and
`--value` pin inputs; a pin holds for the models that have an input of that name.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import onnxpress
from onnxpress.backends.interface import Pins
from onnxpress.backends.latency import Latency
from onnxpress.cli.timing import time_models

PIPELINE = "fold,dce,quantize-insert{mode=weight-only}"
SLOWER_AT_MOST = 1.03
SLOWER_BY_AT_MOST_US = 5.0


def pins_for(path: Path, pins: Pins) -> Pins:
    names = {value.name for value in onnxpress.load(path).graph.inputs}
    shapes = {name: shape for name, shape in pins.shapes.items() if name in names}
    return Pins(shapes, {name: value for name, value in pins.values.items() if name in names})


def verdict(latency: Latency) -> str:
    fast = latency.ratio <= SLOWER_AT_MOST or latency.difference_us <= SLOWER_BY_AT_MOST_US
    spread = f"{latency.ratio_low:.3f} to {latency.ratio_high:.3f}"
    times = f"{latency.median_a_us:.0f} us before, {latency.median_b_us:.0f} us after"
    return f"{latency.ratio:.3f} x ({spread}; {times}){'' if fast else '  SLOWER'}"


def bench(path: Path, pipeline: str, pins: Pins) -> None:
    pins = pins_for(path, pins)
    start = time.perf_counter()
    model = onnxpress.load(path)
    loaded = time.perf_counter() - start
    report = onnxpress.PassManager(pipeline, measure=False, pins=pins).run(model)
    before, after = report.before.file_bytes, report.after.file_bytes
    seconds = ", ".join(f"{step.text} {step.seconds:.2f}" for step in report.steps)
    latency = time_models(onnxpress.load(path), model, data=None, pins=pins, seed=0)
    print(path)
    print(f"  size     {before} to {after} bytes: {after / before:.3f}")
    print(f"  seconds  load {loaded:.2f}, {seconds}")
    print(f"  latency  {latency if isinstance(latency, str) else verdict(latency)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-p", "--pipeline", default=PIPELINE)
    parser.add_argument("--shape", action="append", default=[])
    parser.add_argument("--value", action="append", default=[])
    options = parser.parse_args()
    for path in options.models:
        bench(path, options.pipeline, Pins.parse(options.shape, options.value))


if __name__ == "__main__":
    main()
