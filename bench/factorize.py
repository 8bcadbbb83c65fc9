"""What factorizing is worth: cost, error, latency and task score of models.

    python bench/factorize.py MODEL.onnx ... [MODEL.onnx=CALIB.npz ...] [-p PIPELINE ...] [--against PIPELINE]
                              [--task COMMAND] [--layers FILE] [--processes N]

Each pipeline (by default `simplify,factorize{error=E}` for four errors) is run on each model, with the data behind its
`=` or with generated inputs. Shown are CPU seconds, how many layers were factorized, bytes of the file and MACs of all
layers against the original, rel-L2, and time: the median ratio of CPU time (one thread, interleaved rounds in the
deployment session; quartiles of wall-clock time behind it), against the original and against what `--against`, by
default `simplify` alone, makes of it (where nothing was factorized, that is one model timed twice: the noise).
`--processes` repeats the timing in new processes and shows the median. The result passes onnx's full check, or the
script stops. `--task` is a command in which {} is the file, that prints a line of JSON with `value`: a last column.
`--layers FILE` appends the table of layers of each run, as lines of JSON.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import onnx

import onnxpress
from onnxpress.api import samples_for
from onnxpress.backends.interface import Pins
from onnxpress.backends.latency import latency_ratio
from onnxpress.backends.ort import OrtBackend

SECONDS = 3.0
"""How long each process times two models."""
ERRORS = (0.02, 0.05, 0.1, 0.2)
PIPELINES = [f"simplify,factorize{{error={error}}}" for error in ERRORS]
HEADER = ("model", "pipeline", "data", "CPU", "layers", "bytes", "MACs", "rel-L2", "time", "of {}", "score")


@dataclass(frozen=True)
class Result:
    """One pipeline on one model; shares of the original."""

    seconds: float
    factorized: int
    layers: int
    bytes: float
    macs: float
    error: float | None
    times: tuple[str, str] = ("", "")
    """Against the original, and against the other pipeline."""
    score: float | None = None

    def cells(self) -> tuple[str, ...]:
        """As they stand in a table."""
        error = "-" if self.error is None else f"{self.error:.3f}"
        score = "" if self.score is None else f"{self.score:.4f}"
        done = f"{self.factorized} of {self.layers}"
        return f"{self.seconds:.0f} s", done, f"{self.bytes:.3f}", f"{self.macs:.3f}", error, *self.times, score


def scored(command: str | None, file: Path) -> float | None:
    """What the task says of a file."""
    if command is None:
        return None
    done = subprocess.run(
        [word.replace("{}", str(file)) for word in shlex.split(command)], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1])["value"])


def made(source: Path, pipeline: str, data: str | None, file: Path, *, measure: bool = False) -> tuple[Any, float]:
    """Write what a pipeline makes of a model; its report, and CPU seconds."""
    model = onnxpress.load(source)
    started = time.process_time()
    report = onnxpress.PassManager(pipeline, backend=OrtBackend(), measure=measure).run(model, data=data or "random")
    taken = time.process_time() - started
    onnxpress.save(model, file)
    return report, taken


def timed(source: Path, other: Path, file: Path, data: str | None, processes: int) -> tuple[str, str]:
    """The time of a file over that of its source and over that of another one."""
    command = [sys.executable, __file__, "--time", *map(str, (source, other, file)), data or "random"]
    found = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
             for _ in range(processes)]  # fmt: skip
    return _median([each[0] for each in found]), _median([each[1] for each in found])


def _median(found: list[dict[str, float]]) -> str:
    keys = ("cpu_ratio", "ratio_low", "ratio_high")
    cpu, low, high = (statistics.median(each[key] for each in found) for key in keys)
    return f"{cpu:.2f} ({low:.2f}-{high:.2f})"


def print_times(source: str, other: str, file: str, data: str) -> None:
    """Both ratios as this process sees them."""
    backend = OrtBackend()
    models = [onnxpress.load(Path(each)) for each in (source, other, file)]
    feed = next(iter(islice(samples_for(models[0], data, backend, Pins(), 0), 1)))
    *before, after = (backend.prepare(model, optimize=True) for model in models)
    print(json.dumps([latency_ratio(each, after, feed, seconds=SECONDS).as_dict() for each in before]))


def measured(
    source: Path,
    pipeline: str,
    data: str | None,
    task: str | None,
    layers: Path | None = None,
    against: str | None = None,
    processes: int = 1,
) -> Result:
    """One pipeline on one model; timed if there is one to time it against."""
    times = ("", "")
    with tempfile.TemporaryDirectory() as folder:
        file, other = Path(folder) / "model.onnx", Path(folder) / "other.onnx"
        report, taken = made(source, pipeline, data, file, measure=against is not None)
        onnx.checker.check_model(str(file), full_check=True)
        score, size = scored(task, file), file.stat().st_size
        if against is not None:
            made(source, against, data, other)
            times = timed(source, other, file, data, processes)
    if layers is not None:
        with layers.open("a") as out:
            lines = [line.as_dict() for line in report.layers]
            out.write(json.dumps({"model": source.name, "pipeline": pipeline, "layers": lines}) + "\n")
    rows = [line.cells for line in report.layers if "saved_macs" in line.cells]
    saved = sum(int(cells["saved_macs"] or 0) for cells in rows)
    macs = 1 - saved / max(1, sum(int(cells["macs"] or 0) for cells in rows))
    error = None if report.after is None or report.after.error is None else report.after.error["rel-l2"]
    return Result(
        taken, sum(cells["kept"] == "factorized" for cells in rows), len(rows), size / source.stat().st_size, macs,
        error, times, score,
    )  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--time"]:
        print_times(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="MODEL.onnx or MODEL.onnx=DATA")
    parser.add_argument("--task")
    parser.add_argument("--layers", type=Path)
    parser.add_argument("--against", default="simplify")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("-p", "--pipeline", action="append")
    given = parser.parse_args()
    header = [cell.format(f"`{given.against}`") for cell in (HEADER if given.task else HEADER[:-1])]
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}", flush=True)
    for model in given.models:
        source, _, data = model.partition("=")
        for pipeline in given.pipeline or PIPELINES:
            cells = measured(
                Path(source), pipeline, data or None, given.task, given.layers, given.against, given.processes
            ).cells()
            name, shown = Path(source).stem, Path(data).name if data else "random"
            line = [name if name != "model" else Path(source).parent.name, f"`{pipeline}`", shown, *cells]
            print(f"| {' | '.join(line[: len(header)])} |", flush=True)


if __name__ == "__main__":
    main()
