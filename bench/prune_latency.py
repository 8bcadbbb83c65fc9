"""What a share of the channels is worth: parameters, MACs and time that stay, a row for each model.

    python bench/prune_latency.py MODEL.onnx ... [-p PIPELINE] [--shape NAME=1x3x48x320] [--value sr=16000] [--rounds 3]

Times are of one run in onnxruntime, one thread, optimizations on: medians of interleaved runs, with their ratios of
wall-clock and of CPU time; of several rounds, the one with the median ratio of CPU time. MACs are those at the shapes
that are timed, of the folded model. `--shape` and `--value` hold for the models that have an input of that name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import onnxpress
from onnxpress.backends.interface import Pins
from onnxpress.backends.latency import Latency
from onnxpress.cli.timing import time_models
from onnxpress.ir import Model
from onnxpress.ir.analysis.cost import cost
from onnxpress.passes.prune.channels.sizes import total

PIPELINE = "prune{unit=channel sparsity=0.3}"
COLUMNS = ("model", "parameters", "MACs", "ms before", "ms after", "time", "CPU time")


def pins_for(model: Model, pins: Pins) -> Pins:
    names = {value.name for value in model.graph.inputs}
    shapes = {name: shape for name, shape in pins.shapes.items() if name in names}
    return Pins(shapes, {name: value for name, value in pins.values.items() if name in names})


def row(path: Path, pipeline: str, pins: Pins, rounds: int) -> str:
    folded, cut, original = (onnxpress.load(path) for _ in range(3))
    pins = pins_for(original, pins)
    onnxpress.PassManager("fold", measure=False).run(folded)
    onnxpress.PassManager(pipeline, measure=False).run(cut)
    feed = {name: np.zeros(shape) for name, shape in pins.shapes.items()}
    macs = total(cut, "macs", feed) / total(folded, "macs", feed)
    times = [time_models(original, cut, data=None, pins=pins, seed=0) for _ in range(rounds)]
    seen = sorted((one for one in times if isinstance(one, Latency)), key=lambda one: one.cpu_ratio)
    cells = [path.stem, f"{cost(cut).parameters / cost(folded).parameters:.3f}", f"{macs:.3f}"]
    if seen:
        middle = seen[len(seen) // 2]
        cells += [
            f"{middle.median_a_us / 1000:.3g}",
            f"{middle.median_b_us / 1000:.3g}",
            f"{middle.ratio:.3f}",
            f"{middle.cpu_ratio:.3f}",
        ]
    else:
        cells += [str(times[0]), "", "", ""]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-p", "--pipeline", default=PIPELINE)
    parser.add_argument("--shape", action="append", default=[])
    parser.add_argument("--value", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    pins = Pins.parse(given.shape, given.value)
    for path in given.models:
        print(row(path, given.pipeline, pins, given.rounds), flush=True)


if __name__ == "__main__":
    main()
