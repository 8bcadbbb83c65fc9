"""What a share of the channels is worth: parameters, MACs and time that stay, a row for each model.

    python bench/prune_latency.py MODEL.onnx ... [-p PIPELINE] [--shape NAME=1x3x48x320] [--rounds 3]

Times are of one run in onnxruntime, one thread, optimizations on: medians of interleaved runs, of the round with the
median ratio. MACs are those at the shapes that are timed, of the folded model. `--shape` holds for the models that have
an input of that name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnxpress
from onnxpress.backends.interface import Pins
from onnxpress.backends.latency import Latency
from onnxpress.cli.options import pins_of
from onnxpress.cli.timing import time_models
from onnxpress.ir import Model
from onnxpress.ir.analysis.cost import cost

PIPELINE = "prune{unit=channel sparsity=0.3}"


def pins_for(model: Model, pins: Pins) -> Pins:
    names = {value.name for value in model.graph.inputs}
    return Pins({name: shape for name, shape in pins.shapes.items() if name in names})


def row(path: Path, pipeline: str, pins: Pins, rounds: int) -> str:
    folded, cut, original = (onnxpress.load(path) for _ in range(3))
    pins = pins_for(original, pins)
    onnxpress.PassManager("fold", measure=False).run(folded)
    onnxpress.PassManager(pipeline, measure=False).run(cut)
    before, after = cost(folded, pins.shapes), cost(cut, pins.shapes)
    times = [time_models(original, cut, data=None, pins=pins, seed=0) for _ in range(rounds)]
    seen = sorted((one for one in times if isinstance(one, Latency)), key=lambda one: one.ratio)
    cells = [path.stem, f"{after.parameters / before.parameters:.3f}"]
    cells.append(f"{after.macs / before.macs:.3f}" if before.macs else "unknown")
    if seen:
        middle = seen[len(seen) // 2]
        cells += [f"{middle.median_a_us / 1000:.3g}", f"{middle.median_b_us / 1000:.3g}", f"{middle.ratio:.3f}"]
    else:
        cells += [str(times[0]), "", ""]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-p", "--pipeline", default=PIPELINE)
    parser.add_argument("--shape", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print("| model | parameters | MACs | ms before | ms after | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for path in given.models:
        print(row(path, given.pipeline, pins_of(tuple(given.shape)), given.rounds), flush=True)


if __name__ == "__main__":
    main()
