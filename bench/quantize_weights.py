"""What weight-only int8 costs on real tasks: bytes and score before and after, beside the loss that is allowed.

    python bench/quantize_weights.py --zoo DIR --tasks DIR [--only NAME ...] [--pipeline TEXT]

`--zoo` holds the models; `--tasks` is the folder of the package `tasks`, whose modules score a model file and print one
line of JSON. Exit code 1 if a loss is larger than allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Task(NamedTuple):
    module: str
    variant: str
    file: str
    allowed: float
    """Loss, in the unit of the score."""


TASKS = (
    Task("digits", "lenet300", "lenet300.onnx", 0.001),
    Task("digits", "lenet300_pruned", "lenet300_pruned.onnx", 0.001),
    Task("digits", "resnet", "resnet.onnx", 0.001),
    Task("digits", "resnet_bn", "resnet_bn.onnx", 0.001),
    Task("digits", "resnet_skewed", "resnet_skewed.onnx", 0.001),
    Task("magika", "v3_3", "magika.onnx", 0.005),
    Task("vad", "op15", "silero_vad_op15.onnx", 0.005),
    Task("text_det", "v4", "ppocr4_det.onnx", 0.005),
    Task("ocr_rec", "v4", "ppocr4_rec.onnx", 0.010),
    Task("minilm", "l6", "minilm/model.onnx", 0.005),
)
PIPELINE = "fold,dce,quantize-insert{mode=weight-only}"


def score(task: Task, model: Path, zoo: Path, tasks: Path) -> float:
    """What the task gives a model file."""
    command = [sys.executable, "-m", f"tasks.{task.module}", str(model), "--variant", task.variant]
    done = subprocess.run(
        command, cwd=tasks, env={**os.environ, "ZOO": str(zoo)}, check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout.strip().splitlines()[-1])["value"])


def compress(model: Path, pipeline: str, out: Path) -> None:
    onnxpress = str(Path(sys.executable).parent / "onnxpress")
    command = [onnxpress, "run", str(model), "-p", pipeline, "-o", str(out), "--samples", "1"]
    subprocess.run(command, check=True, capture_output=True)


def options_of(doc: str) -> argparse.ArgumentParser:
    """The options of every script that scores tasks; `doc` is its docstring."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=[task.variant for task in TASKS], help="variants")
    return parser


def chosen(options: argparse.Namespace) -> list[Task]:
    """The tasks that `--only` names, or all."""
    return [task for task in TASKS if not options.only or task.variant in options.only]


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--pipeline", default=PIPELINE)
    options = parser.parse_args()
    zoo, tasks, failed = options.zoo.resolve(), options.tasks.resolve(), False
    print("| task | variant | bytes | after | ratio | score | after | loss | allowed | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for task in chosen(options):
            before, after = zoo / task.file, Path(folder) / "after.onnx"
            compress(before, options.pipeline, after)
            scores = [score(task, model, zoo, tasks) for model in (before, after)]
            loss = scores[0] - scores[1]
            failed |= loss > task.allowed + 1e-9
            verdict = "ok" if loss <= task.allowed + 1e-9 else "too much"
            sizes = before.stat().st_size, after.stat().st_size
            print(
                f"| {task.module} | {task.variant} | {sizes[0]:,} | {sizes[1]:,} | {sizes[1] / sizes[0]:.3f} "
                f"| {scores[0]:.4f} | {scores[1]:.4f} | {loss:.4f} | {task.allowed} | {verdict} |",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
