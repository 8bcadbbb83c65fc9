"""What cutting channels and heads costs and saves, with repair and without, beside onnxsim.

    python bench/prune_channels.py MODEL.onnx --data CALIB.npz [-p PIPELINE ...] [--score 'COMMAND {}'] [--rival PYTHON]

One line for each pipeline: the shares of the MACs and parameters that stay, how long one run takes against one of the
original (median of interleaved runs, one thread, optimizations on), and what the command says of the model, whose file
takes the place of `{}`. With `--rival`, onnxsim of that Python is asked for several shares of channels. The default
pipelines cut to half the MACs, with repair and without.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import onnxpress
from onnxpress.backends.interface import Pins
from onnxpress.cli.timing import time_models
from onnxpress.ir.analysis.cost import cost
from onnxpress.passes.prune.channels.sizes import total

PIPELINES = (
    "prune{macs=0.5 criterion=obs}",
    "prune{macs=0.5 criterion=obs repair=off}",
    "prune{macs=0.5 repair=off}",
)
RIVAL = """
import sys, onnx, onnxsim
made = onnxsim.apply_structured_pruning(onnx.load(sys.argv[1]), sparsity=float(sys.argv[3]))
onnx.save(made[0] if isinstance(made, tuple) else made, sys.argv[2])
"""
RIVAL_SHARES = (0.3, 0.5, 0.7)


def first_shapes(data: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs in the first sample."""
    with np.load(data) as arrays:
        return {
            name.split("@")[0]: (1, *arrays[name].shape[1:]) for name in arrays if name.split("@")[1:] in ([], ["0"])
        }


def line(label: str, original: Path, path: Path, data: Path, command: str | None) -> str:
    before, after = onnxpress.load(original), onnxpress.load(path)
    pins = first_shapes(data)
    feed = {name: np.zeros(shape) for name, shape in pins.items()}
    share = total(after, "macs", feed) / total(before, "macs", feed)
    parameters = cost(after).parameters / cost(before).parameters
    latency = time_models(before, after, data=None, pins=Pins(), seed=0)
    seconds = latency if isinstance(latency, str) else f"{latency.ratio:.3f}"
    words = [f"MACs {share:.4f}", f"parameters {parameters:.3f}", f"time {seconds}"]
    if command is not None:
        done = subprocess.run(shlex.split(command.format(path)), capture_output=True, text=True, check=False)
        words.append((done.stdout.strip() or done.stderr.strip() or "nothing said").splitlines()[-1])
    return f"{label:44} {'  '.join(words)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-p", "--pipeline", action="append", help="default: those named above")
    parser.add_argument("--score", help="a command that scores a model")
    parser.add_argument("--rival", help="a Python that has onnxsim")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(line("original", given.model, given.model, given.data, given.score), flush=True)
        for pipeline in given.pipeline or PIPELINES:
            model = onnxpress.load(given.model)
            onnxpress.PassManager(pipeline, measure=False).run(model, data=[str(given.data)])
            path = Path(folder, "pruned.onnx")
            onnxpress.save(model, path)
            print(line(pipeline, given.model, path, given.data, given.score), flush=True)
        for share in RIVAL_SHARES if given.rival else ():
            path = Path(folder, "rival.onnx")
            command = [given.rival, "-c", RIVAL, str(given.model), str(path), str(share)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            label = f"onnxsim, structured pruning {share}"
            if done.returncode:
                print(f"{label:44} fails: {done.stderr.strip().splitlines()[-1]}", flush=True)
            else:
                print(line(label, given.model, path, given.data, given.score), flush=True)


if __name__ == "__main__":
    main()
