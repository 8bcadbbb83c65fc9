"""What the framework takes on top of the passes: verification, journal and report, without measuring errors.

    python bench/overhead.py [-p PIPELINE] [--rounds 7] [--shape NAME=AxB] MODEL.onnx ...

Prints the medians of both and their ratio. MACs need one shape inference at the start and one after a pass that may
have changed them, and the file is weighed after each; on small models that outweighs passes of a few milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import onnxpress
from onnxpress.backends.interface import Pins

ALLOWED = 0.3
"""Of the passes' own time."""


def seconds(path: Path, pipeline: str, pins: Pins) -> tuple[float, float]:
    """Of the passes, and of the framework around them, in one run."""
    model = onnxpress.load(path)
    known = {value.name for value in model.graph.inputs}
    shapes = {name: shape for name, shape in pins.shapes.items() if name in known}
    report = onnxpress.PassManager(pipeline, measure=False, pins=Pins(shapes)).run(model)
    return sum(step.seconds for step in report.steps), report.overhead_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-p", "--pipeline", default="fold,dce,quantize-insert")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=AxB")
    asked = parser.parse_args()
    pins = Pins.parse(asked.shape)
    for path in asked.models:
        rounds = [seconds(path, asked.pipeline, pins) for _ in range(asked.rounds)]
        passes, framework = (statistics.median(column) for column in zip(*rounds, strict=True))
        mark = "" if framework <= ALLOWED * passes else f"  above {ALLOWED}"
        times = f"passes {passes * 1e3:7.1f} ms, framework {framework * 1e3:6.1f} ms"
        print(f"{path.stem:24} {times}: {framework / passes:.2f}{mark}")


if __name__ == "__main__":
    main()
