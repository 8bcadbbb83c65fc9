"""What factorizing is worth: cost, error, latency and task score of models at several goals.

    python bench/factorize.py MODEL.onnx --data calib.npz [-p PIPELINE ...] [--task "python -m tasks.digits {} ..."]

Each pipeline (by default `simplify,factorize{error=E}` for four errors, and whitened against plain SVD at five sizes)
is run on the model. Shown are CPU seconds, MACs and bytes against the original, rel-L2, the latency ratio (one thread,
interleaved rounds in the deployment session), how many layers were factorized, and what the task says: `--task` is a
command in which {} is the file, that prints a line of JSON with `value`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
import time
from itertools import islice
from pathlib import Path

import onnx

import onnxpress
from onnxpress.api import samples_for
from onnxpress.backends.interface import Pins
from onnxpress.backends.latency import latency_ratio
from onnxpress.backends.ort import OrtBackend

ERRORS = (0.02, 0.05, 0.1, 0.2)
SIZES = (0.9, 0.8, 0.7, 0.6, 0.5)
PIPELINES = [f"simplify,factorize{{error={error}}}" for error in ERRORS] + [
    f"simplify,factorize{{bytes={size} methods=[svd] whiten={switch}}}" for size in SIZES for switch in ("on", "off")
]


def score(command: str | None, file: Path) -> str:
    """What the task says of a file."""
    if command is None:
        return ""
    done = subprocess.run(
        [word.replace("{}", str(file)) for word in shlex.split(command)], capture_output=True, text=True, check=True
    )
    return f"{json.loads(done.stdout.splitlines()[-1])['value']:.4f}"


def row(source: Path, pipeline: str, data: str | None, task: str | None) -> tuple[str, ...]:
    """One pipeline on one model."""
    backend = OrtBackend()
    before, model = onnxpress.load(source), onnxpress.load(source)
    started = time.process_time()
    report = onnxpress.PassManager(pipeline, backend=backend).run(model, data=data)
    taken = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnxpress.save(model, file)
        onnx.checker.check_model(str(file), full_check=True)
        said, size = score(task, file), file.stat().st_size
    feed = next(iter(islice(samples_for(before, data or "random", backend, Pins(), 0), 1)))
    sessions = (backend.prepare(one, optimize=True) for one in (before, model))
    latency = latency_ratio(*sessions, feed)
    done = sum(line.cells["kept"] == "factorized" for line in report.layers)
    saved = sum(int(line.cells["saved_macs"] or 0) for line in report.layers)
    error = report.after.error
    return (
        pipeline, f"{taken:.0f} s", f"{done}/{len(report.layers)}", f"{saved / 1e6:.2f} M",
        f"{size / source.stat().st_size:.3f}", "-" if error is None else f"{error['rel-l2']:.3f}",
        f"{latency.ratio:.2f} ({latency.ratio_low:.2f}-{latency.ratio_high:.2f})", said,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--task")
    parser.add_argument("-p", "--pipeline", action="append")
    given = parser.parse_args()
    header = ("pipeline", "CPU", "layers", "MACs saved", "bytes", "rel-L2", "latency", "score")
    for source in given.models:
        print(f"\n{source.name}\n| {' | '.join(header)} |\n|{' --- |' * len(header)}", flush=True)
        for pipeline in given.pipeline or PIPELINES:
            print(f"| {' | '.join(row(source, pipeline, given.data, given.task))} |", flush=True)


if __name__ == "__main__":
    main()
