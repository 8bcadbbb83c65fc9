"""What factorizing is worth: cost, error, latency and task score of models.

    python bench/factorize.py MODEL.onnx ... [MODEL.onnx=CALIB.npz ...] [-p PIPELINE ...] [--task COMMAND]

Each pipeline (by default `simplify,factorize{error=E}` for four errors) is run on each model, with the data behind its
`=` or with generated inputs. Shown are CPU seconds, how many layers were factorized, bytes of the file and MACs of all
layers against the original, rel-L2, and the latency ratio (one thread, interleaved rounds in the deployment session,
quartiles behind it). The result passes onnx's full check, or the script stops. `--task` is a command in which {} is the
file, that prints a line of JSON with `value`: a last column. `--layers FILE` appends the table of layers of each run,
as lines of JSON.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import onnx

import onnxpress
from onnxpress.api import samples_for
from onnxpress.backends.interface import Pins
from onnxpress.backends.latency import latency_ratio
from onnxpress.backends.ort import OrtBackend

ERRORS = (0.02, 0.05, 0.1, 0.2)
PIPELINES = [f"simplify,factorize{{error={error}}}" for error in ERRORS]
HEADER = ("model", "pipeline", "data", "CPU", "layers", "bytes", "MACs", "rel-L2", "latency", "score")


@dataclass(frozen=True)
class Result:
    """One pipeline on one model; shares of the original."""

    seconds: float
    factorized: int
    layers: int
    bytes: float
    macs: float
    error: float | None
    latency: str
    score: float | None

    def cells(self) -> tuple[str, ...]:
        """As they stand in a table."""
        error = "-" if self.error is None else f"{self.error:.3f}"
        score = "" if self.score is None else f"{self.score:.4f}"
        done = f"{self.factorized}/{self.layers}"
        return f"{self.seconds:.0f} s", done, f"{self.bytes:.3f}", f"{self.macs:.3f}", error, self.latency, score


def scored(command: str | None, file: Path) -> float | None:
    """What the task says of a file."""
    if command is None:
        return None
    done = subprocess.run(
        [word.replace("{}", str(file)) for word in shlex.split(command)], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1])["value"])


def measured(
    source: Path, pipeline: str, data: str | None, task: str | None, layers: Path | None = None, *, timed: bool = True
) -> Result:
    """One pipeline on one model."""
    backend = OrtBackend()
    before, model = onnxpress.load(source), onnxpress.load(source)
    started = time.process_time()
    report = onnxpress.PassManager(pipeline, backend=backend, measure=timed).run(model, data=data or "random")
    taken = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnxpress.save(model, file)
        onnx.checker.check_model(str(file), full_check=True)
        score, size = scored(task, file), file.stat().st_size
    feed = next(iter(islice(samples_for(before, data or "random", backend, Pins(), 0), 1)))
    latency = ""
    if timed:
        sessions = (backend.prepare(one, optimize=True) for one in (before, model))
        found = latency_ratio(*sessions, feed)
        latency = f"{found.ratio:.2f} ({found.ratio_low:.2f}-{found.ratio_high:.2f})"
    if layers is not None:
        with layers.open("a") as out:
            lines = [line.as_dict() for line in report.layers]
            out.write(json.dumps({"model": source.name, "pipeline": pipeline, "layers": lines}) + "\n")
    saved = sum(int(line.cells["saved_macs"] or 0) for line in report.layers)
    macs = 1 - saved / max(1, sum(int(line.cells["macs"] or 0) for line in report.layers))
    error = report.after.error
    return Result(
        taken, sum(line.cells["kept"] == "factorized" for line in report.layers), len(report.layers),
        size / source.stat().st_size, macs, None if error is None else error["rel-l2"], latency, score,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="MODEL.onnx or MODEL.onnx=DATA")
    parser.add_argument("--task")
    parser.add_argument("--layers", type=Path)
    parser.add_argument("-p", "--pipeline", action="append")
    given = parser.parse_args()
    header = HEADER if given.task else HEADER[:-1]
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}", flush=True)
    for model in given.models:
        source, _, data = model.partition("=")
        for pipeline in given.pipeline or PIPELINES:
            cells = measured(Path(source), pipeline, data or None, given.task, given.layers).cells()
            name, shown = Path(source).stem, Path(data).name if data else "random"
            line = [name if name != "model" else Path(source).parent.name, f"`{pipeline}`", shown, *cells]
            print(f"| {' | '.join(line[: len(header)])} |", flush=True)


if __name__ == "__main__":
    main()
