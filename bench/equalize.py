"""What `equalize` does for onnxruntime's static int8: scores without it and with it.

    python bench/equalize.py --zoo DIR --tasks DIR --calib DIR [--only NAME ...]

`--zoo` holds the models, `--tasks` is the folder of the package `tasks`, `--calib` holds `TASK_VARIANT.npz`. Models are
quantized by `onnxruntime.quantization.quantize_static`: QDQ, uint8 activations, int8 weights by channel, least and
greatest values of all calibration samples. The additive mask of MiniLM, -10000, is left in float. Opsets below 13 are
raised, as scales by channel need it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class Task(NamedTuple):
    module: str
    variant: str
    file: str
    before: str
    """Pipeline before `equalize`."""
    options: tuple[str, ...]
    operators: tuple[str, ...] = ()
    """What is quantized; all that onnxruntime can if empty."""


BOTH = ("criterion=weights", "criterion=activations")
TASKS = (
    Task("digits", "resnet", "resnet.onnx", "simplify", BOTH),
    Task("digits", "resnet_skewed", "resnet_skewed.onnx", "simplify", BOTH),
    Task("digits", "resnet_bn", "resnet_bn.onnx", "simplify", BOTH),
    Task("vad", "op15", "silero_vad_op15.onnx", "simplify", BOTH),
    Task("ocr_rec", "v4", "ppocr4_rec.onnx", "cast,simplify", BOTH),
    Task("text_det", "v4", "ppocr4_det.onnx", "cast,simplify", BOTH),
    Task("minilm", "l6", "minilm/model.onnx", "simplify", (*BOTH, "insert=true")),
    Task("minilm", "l6", "minilm/model.onnx", "simplify", (*BOTH, "insert=true"), ("MatMul",)),
)


class Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, file: Path) -> None:
        self._feeds = feeds(file)

    def get_next(self) -> Any:
        return next(self._feeds, None)


def feeds(file: Path) -> Iterator[dict[str, Any]]:
    """The samples of a file, one by one."""
    arrays = np.load(file)
    if not any("@" in name for name in arrays):
        for at in range(len(arrays[arrays.files[0]])):
            yield {name: arrays[name][at : at + 1] for name in arrays}
        return
    names = dict.fromkeys(name.split("@")[0] for name in arrays)
    for at in range(len(arrays.files) // len(names)):
        yield {name: arrays[f"{name}@{at}"] for name in names}


def masks(model: onnx.ModelProto) -> list[str]:
    """The nodes that add a mask before a Softmax, and those that compute it."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, None] = {}
    todo: list[str] = []
    for node in model.graph.node:
        adder = made_by.get(node.input[0]) if node.op_type == "Softmax" else None
        if adder is not None and adder.op_type == "Add":
            found[adder.name] = None
            todo.append(adder.input[1])
    while todo:
        node = made_by.get(todo.pop())
        if node is not None and node.name not in found:
            found[node.name] = None
            todo += node.input
    return list(found)


def quantize(source: Path, calib: Path, to: Path, operators: tuple[str, ...]) -> None:
    model = onnx.load(source)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    named = source.with_name("named.onnx")
    onnx.save(model, named)
    quantize_static(
        named, to, Samples(calib), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, nodes_to_exclude=masks(model), op_types_to_quantize=list(operators) or None,
    )  # fmt: skip


def score(task: Task, model: Path, zoo: Path, tasks: Path) -> float:
    """What the task gives a model file."""
    command = [sys.executable, "-m", f"tasks.{task.module}", str(model), "--variant", task.variant]
    done = subprocess.run(
        command, cwd=tasks, env={**os.environ, "ZOO": str(zoo)}, check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout.strip().splitlines()[-1])["value"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--calib", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=[task.variant for task in TASKS], help="variants")
    parser.add_argument("--onnxpress", default=str(Path(sys.executable).parent / "onnxpress"))
    options = parser.parse_args()
    zoo, tasks, calib = options.zoo.resolve(), options.tasks.resolve(), options.calib.resolve()
    print("| task | variant | quantized | pipeline | score |")
    print("| --- | --- | --- | --- | --- |")
    for task in TASKS:
        if options.only and task.variant not in options.only:
            continue
        data = calib / f"{task.module}_{task.variant}.npz"
        if not data.exists():
            data = calib / f"{task.variant}.npz"
        what = ", ".join(task.operators) or "all"
        for pipeline in (task.before, *(f"{task.before},equalize{{{each}}}" for each in task.options)):
            with tempfile.TemporaryDirectory() as folder:
                before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
                command = [options.onnxpress, "run", str(zoo / task.file), "-p", pipeline, "-o", str(before)]
                command += ["--data", str(data), "--no-measure"]
                subprocess.run(command, check=True, capture_output=True)
                quantize(before, data, after, task.operators)
                found = score(task, after, zoo, tasks)
            print(f"| {task.module} | {task.variant} | {what} | `{pipeline}` | {found:.4f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
