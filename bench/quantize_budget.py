"""Weights of mixed types beside one type for all: bytes, how far the outputs move, and score.

    python bench/quantize_budget.py --zoo DIR --tasks DIR [--only NAME ...] [--budgets 0.15 0.2] [--more TEXT]

`--zoo` holds the models; `--tasks` is the folder of the package `tasks`, whose modules score a model file and give
calibration data. All rows of a model have the same data and the options `--more`. `rel-L2` is that of the outputs on
samples that nothing was calibrated on. `above` is what a row has above the straight line between int4 and int8, at its
bytes: of the error (where below 0 is better), and of the score.
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

import numpy as np


class Case(NamedTuple):
    file: str
    task: str = ""
    variant: str = ""
    pins: tuple[str, ...] = ()
    calibrated: int = 32
    judged: int = 16


CASES = {
    "resnet": Case("resnet.onnx", "digits", "resnet"),
    "op15": Case("silero_vad_op15.onnx", "vad", "op15", calibrated=256, judged=256),
    "rec": Case("ppocr4_rec.onnx", "ocr_rec", "v4"),
    "det": Case("ppocr4_det.onnx", "text_det", "v4"),
    "minilm": Case("minilm/model.onnx", "minilm", "l6"),
    "nudenet": Case("nudenet.onnx", pins=("--shape", "images=1x3x320x320")),
}


class Row(NamedTuple):
    label: str
    size: int
    error: float
    score: float


def task(case: Case, args: argparse.Namespace, *more: str) -> float:
    """The score of a model file; 0 where only files are asked for."""
    command = [sys.executable, "-m", f"tasks.{case.task}", *more, "--variant", case.variant]
    done = subprocess.run(
        command, cwd=args.tasks, env={**os.environ, "ZOO": str(args.zoo)}, check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout.strip().splitlines()[-1]).get("value", 0.0))


def samples(case: Case, args: argparse.Namespace, folder: Path) -> tuple[str, list[dict[str, np.ndarray]]]:
    """What to calibrate on, for the command line, and samples to judge by."""
    if not case.task:
        return "random", _generated(args.zoo / case.file, case)
    task(case, args, "--calib", str(folder / "all.npz"), "--n", str(case.calibrated + case.judged))
    feeds = _feeds(folder / "all.npz")
    named = {f"{name}@{i}": array for i, feed in enumerate(feeds[: case.calibrated]) for name, array in feed.items()}
    np.savez(folder / "calib.npz", **named)
    return str(folder / "calib.npz"), feeds[case.calibrated :]


def _feeds(path: Path) -> list[dict[str, np.ndarray]]:
    with np.load(path) as held:
        if all("@" in key for key in held.files):
            names = dict.fromkeys(key.split("@")[0] for key in held.files)
            count = 1 + max(int(key.split("@")[1]) for key in held.files)
            return [{name: held[f"{name}@{i}"] for name in names} for i in range(count)]
        arrays = {key: held[key] for key in held.files}
        return [
            {key: array[i : i + 1] for key, array in arrays.items()} for i in range(len(next(iter(arrays.values()))))
        ]


def _generated(path: Path, case: Case) -> list[dict[str, np.ndarray]]:
    import onnxpress
    from onnxpress.api import default_backend, samples_for
    from onnxpress.backends.interface import Pins

    shapes = {k: tuple(map(int, v.split("x"))) for k, _, v in (pin.partition("=") for pin in case.pins[1::2])}
    return [dict(f) for f in samples_for(onnxpress.load(path), "random", default_backend(), Pins(shapes, {}), 1)]


def error(before: Path, after: Path, feeds: list[dict[str, np.ndarray]]) -> float:
    """rel-L2 of the outputs over all samples, the worst of the outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    sessions = [onnxruntime.InferenceSession(str(one), options, ["CPUExecutionProvider"]) for one in (before, after)]
    pairs = [[session.run(None, feed) for session in sessions] for feed in feeds]
    sums = [
        (
            sum(float(np.square(a[i] - b[i]).sum()) for a, b in pairs),
            sum(float(np.square(a[i]).sum()) for a, _ in pairs),
        )
        for i in range(len(pairs[0][0]))
    ]
    return max((off / size) ** 0.5 for off, size in sums)


def compress(case: Case, args: argparse.Namespace, options: str, data: str, out: Path) -> None:
    tool = str(Path(sys.executable).parent / "onnxpress")
    text = f"simplify,quantize-insert{{{options} {args.more}}}"
    command = [tool, "run", str(args.zoo / case.file), "-p", text, "--data", data, *case.pins, "--no-measure"]
    subprocess.run([*command, "-o", str(out)], check=True, capture_output=True)


def row(case: Case, args: argparse.Namespace, options: str, data: str, feeds: list, folder: Path) -> Row:
    out, score = folder / "after.onnx", float("nan")
    compress(case, args, options, data, out)
    if case.task:
        score = task(case, args, str(out))
    return Row(options, out.stat().st_size, error(args.zoo / case.file, out, feeds), score)


def show(name: str, source: Path, one: Row, ends: list[Row]) -> None:
    above = ["", ""]
    if len(ends) == 2:
        low, high = ends
        share = (one.size - low.size) / (high.size - low.size)
        line = (1 - share) * low.error + share * high.error
        above = [
            f"{one.error - line:+.4f}",
            f"{one.score - (1 - share) * low.score - share * high.score:+.4f}",
        ]
    size = f"{one.size:,} | {one.size / source.stat().st_size:.3f}"
    print(
        f"| {name} | {one.label} | {size} | {one.error:.4f} | {above[0]} | {one.score:.4f} | {above[1]} |", flush=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--budgets", nargs="+", default=["0.15", "0.2"])
    parser.add_argument("--more", default="")
    args = parser.parse_args()
    args.zoo, args.tasks = args.zoo.resolve(), args.tasks.resolve()
    print("| model | weights | bytes | ratio | rel-L2 | above | score | above |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in args.only:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            data, feeds = samples(case, args, folder)
            ends: list[Row] = []
            for options in ("type=int4", "type=int8", *(f"budget={budget}" for budget in args.budgets)):
                one = row(case, args, options, data, feeds, folder)
                show(name, args.zoo / case.file, one, ends)
                if options.startswith("type"):
                    ends.append(one)
    return 0


if __name__ == "__main__":
    sys.exit(main())
