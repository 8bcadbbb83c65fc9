"""What the framework takes on top of the passes: verification, journal and report, without measuring errors.

    python bench/overhead.py [-p PIPELINE ...] [--rounds 7] [--shape NAME=AxB] MODEL.onnx ...

Prints for each pipeline the medians of both, their ratio, and how many passes ran, those inside combinators too, and
changed something. MACs need one shape inference at the start and one after a pass that may have changed them. Where a
pass asks for the same inference of the same model, it is counted to that pass, which would have had to run it; with
`--shape` it is the framework's alone. The first look at a model (its file weighed, its MACs counted) is half of the
framework's time in a run of few passes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnxpress
from onnxpress.backends.interface import Pins
from onnxpress.passes.manager.report import Step

ALLOWED = 0.3
"""Of the passes' own time."""
PIPELINES = ("simplify,quantize-insert", "simplify", "fold,dce,quantize-insert")


def seconds(path: Path, pipeline: str, pins: Pins) -> tuple[float, float, list[Step]]:
    """Of the passes, and of the framework around them, in one run; and what ran."""
    model = onnxpress.load(path)
    known = {value.name for value in model.graph.inputs}
    shapes = {name: shape for name, shape in pins.shapes.items() if name in known}
    report = onnxpress.PassManager(pipeline, measure=False, pins=Pins(shapes)).run(model)
    return sum(step.seconds for step in report.steps), report.overhead_seconds, list(leaves(report.steps))


def leaves(steps: Iterable[Step]) -> Iterator[Step]:
    """The passes that ran, without the combinators around them."""
    for step in steps:
        yield from leaves(step.children) if step.children else [step]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-p", "--pipeline", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=AxB")
    asked = parser.parse_args()
    pins = Pins.parse(asked.shape)
    for pipeline in asked.pipeline or PIPELINES:
        print(pipeline)
        for path in asked.models:
            show(path, [seconds(path, pipeline, pins) for _ in range(asked.rounds)])


def show(path: Path, rounds: list[tuple[float, float, list[Step]]]) -> None:
    passes = statistics.median(one for one, _, _ in rounds)
    framework = statistics.median(one for _, one, _ in rounds)
    ran = rounds[0][2]
    counts = f"{len(ran)} passes, {sum(step.changed for step in ran)} changed it"
    mark = "" if framework <= ALLOWED * passes else f"  above {ALLOWED}"
    times = f"passes {passes * 1e3:7.1f} ms, framework {framework * 1e3:6.1f} ms"
    print(f"  {path.stem:24} {times}: {framework / passes:.2f} ({counts}){mark}")


if __name__ == "__main__":
    main()
