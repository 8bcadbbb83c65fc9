"""Static quantization of real models, beside other tools: size, time, score, integer work.

    python bench/quantize.py --zoo DIR --tasks DIR [--only NAME ...] [--pipeline TEXT] [--processes N]
                             [--peer TOOL[=PYTHON] ... [--peers-only]] [--patience SECONDS]

`--zoo` holds the models; `--tasks` is the folder of the package `tasks`, whose modules score a model file, give
calibration data and print one line of JSON. Models without a task get generated data. `--peer nncf=venv/bin/python`
quantizes with a tool of `bench/quantizers.py` as well, run by an interpreter that has it; onnxruntime's need none.
A tool that fails, crashes or hangs gets a line that says so. Times: CPU time of one thread, medians over processes of
interleaved runs; of making a file, CPU time of all threads. Exit code 1 if a file is larger than .35 of
its input, slower than it, or loses more than is allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    file: str
    task: str = ""
    variant: str = ""
    allowed: float = 0.0
    """Loss, in the unit of the score."""
    pins: tuple[str, ...] = ()


CASES = {
    "lenet300": Case("lenet300.onnx", "digits", "lenet300", 0.005),
    "lenet300_pruned": Case("lenet300_pruned.onnx", "digits", "lenet300_pruned", 0.005),
    "resnet": Case("resnet.onnx", "digits", "resnet", 0.005),
    "resnet_bn": Case("resnet_bn.onnx", "digits", "resnet_bn", 0.005),
    "resnet_skewed": Case("resnet_skewed.onnx", "digits", "resnet_skewed", 0.005),
    "magika": Case("magika.onnx", "magika", "v3_3", 0.005),
    "op15": Case("silero_vad_op15.onnx", "vad", "op15", 0.01),
    "det": Case("ppocr4_det.onnx", "text_det", "v4", 0.01),
    "rec": Case("ppocr4_rec.onnx", "ocr_rec", "v4", 0.01),
    "minilm": Case("minilm/model.onnx", "minilm", "l6", 0.01),
    "cls": Case("ppocr_cls.onnx", pins=("--shape", "x=1x3x48x192")),
    "nudenet": Case("nudenet.onnx", pins=("--shape", "images=1x3x320x320")),
    "silero": Case("silero_vad.onnx", "vad", "op15", 0.01),
    "silero_noise": Case("silero_vad.onnx", pins=("--shape", "input=1x512", "--value", "sr=16000")),
    "half": Case("silero_vad_half.onnx"),
}
PIPELINE = "simplify,quantize-insert{mode=static}"
LARGEST, SLOWEST, ROOM_US = 0.35, 1.03, 5.0

TIMER = """
import sys, time, json, numpy as np, onnxruntime as ort
def session(path):
    options = ort.SessionOptions(); options.intra_op_num_threads = 1; options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
a, b = session(sys.argv[1]), session(sys.argv[2])
feed = dict(np.load(sys.argv[3]))
for _ in range(3): a.run(None, feed); b.run(None, feed)
taken, stop = ([], []), time.perf_counter() + float(sys.argv[5])
while len(taken[0]) < int(sys.argv[4]) and (len(taken[0]) < 10 or time.perf_counter() < stop):
    for index, session_ in ((0, a), (1, b)):
        start = time.process_time(); session_.run(None, feed); taken[index].append(time.process_time() - start)
ya, yb = a.run(None, feed), b.run(None, feed)
pairs = [(x.astype(float).ravel(), y.astype(float).ravel()) for x, y in zip(ya, yb) if x.dtype.kind == "f"]
cosine = min(float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-300)) for x, y in pairs)
print(json.dumps([1e6 * float(np.median(one)) for one in taken] + [cosine]))
"""


class StepError(Exception):
    """Why a program gave nothing, in a line."""


def run(*command: str, patience: float | None = None, **more: Any) -> tuple[subprocess.CompletedProcess[str], float]:
    """What a program said, and its CPU seconds. StepError if there is no such program, it crashes, or it has not
    ended after so many seconds: then it is killed, with all that it started."""
    before = _cpu_of_children()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    try:
        child = subprocess.Popen(command, start_new_session=True, **pipes, **more)
    except OSError as error:
        raise StepError(str(error)) from None
    try:
        stdout, stderr = child.communicate(timeout=patience)
    except BaseException as error:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        taken = _cpu_of_children() - before
        raise StepError(f"not finished after {patience:.0f} s, {taken:.0f} of CPU time") from None
    if child.returncode:
        died = f"ended by {signal.Signals(-child.returncode).name}" if child.returncode < 0 else last_error(stderr)
        raise StepError(died)
    return subprocess.CompletedProcess(command, 0, stdout, stderr), _cpu_of_children() - before


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def last_error(stderr: str) -> str:
    """The line that says why a program failed; the last one if none says so."""
    lines = stderr.strip().splitlines() or ["it said nothing"]
    told = (line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception|Fail|Invalid)", line))
    # Without the module of the exception and the name of the file.
    return re.sub(r"^[\w.]+\.(?=\w+:)|\[ONNXRuntimeError\].*failed:", "", next(told, lines[-1]))[:200]


def task(case: Case, args: argparse.Namespace, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"tasks.{case.task}", *more, "--variant", case.variant]
    environment = {**os.environ, "ZOO": str(args.zoo[0])}
    done, _ = run(*command, patience=args.patience, cwd=args.tasks, env=environment)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def calibration(case: Case, args: argparse.Namespace, folder: Path) -> str:
    if not case.task:
        return "random"
    task(case, args, "--calib", str(folder / "calib.npz"), "--n", "64")
    return str(folder / "calib.npz")


def sampled(case: Case, source: Path, data: str, folder: Path, count: int | None = None) -> Path:
    """The samples that `--data` stands for, as a file; `count` of them, one an input without `@`."""
    import onnxpress
    from onnxpress.api import default_backend, samples_for
    from onnxpress.backends.interface import Pins

    pairs = [pin.split("=") for pin in case.pins[1::2]]
    shapes = {name: tuple(map(int, value.split("x"))) for name, value in pairs if "x" in value}
    values = {name: np.array(int(value)) for name, value in pairs if "x" not in value}
    taken = islice(samples_for(onnxpress.load(source), data, default_backend(), Pins(shapes, values), 0), count)
    held = {
        name if count == 1 else f"{name}@{index}": np.asarray(value)
        for index, feed in enumerate(taken)
        for name, value in feed.items()
    }
    target = folder / ("feed.npz" if count == 1 else "samples.npz")
    np.savez(target, **held)
    return target


def compress(case: Case, source: Path, data: str, out: Path, args: argparse.Namespace) -> tuple[str, float]:
    """Run onnxpress; the share of MACs in integers, as it reports, and its CPU seconds."""
    tool = str(Path(sys.executable).parent / "onnxpress")
    shown = ("--no-measure", "--remarks", "applied")
    command = [tool, "run", str(source), "-p", args.pipeline, "--data", data, *case.pins, *shown, "-o", str(out)]
    done, cpu = run(*command, patience=args.patience)
    found = re.search(r"(\d+)% of the MACs run in integers", done.stderr)
    return f"{found.group(1)} %" if found else "0 %", cpu


def latency(before: Path, after: Path, feed: Path, args: argparse.Namespace) -> tuple[float, float, float]:
    """Medians over processes in microseconds, and the least cosine."""
    command = [sys.executable, "-c", TIMER, str(before), str(after), str(feed), "200", "20"]
    rows = [json.loads(run(*command, patience=args.patience)[0].stdout) for _ in range(args.processes)]
    a, b, cosine = zip(*rows, strict=True)
    return float(np.median(a)), float(np.median(b)), min(cosine)


def show(
    name: str, case: Case, source: Path, made: Path, feed: Path, args: argparse.Namespace, before: float, more: str
) -> bool:
    """Print one line; whether it is within the limits."""
    size = made.stat().st_size / source.stat().st_size
    try:
        old, new, cosine = latency(source, made, feed, args)
        after = task(case, args, str(made))["value"] if case.task else float("nan")
    except StepError as error:
        print(f"{name:28} {size:.3f} of the bytes, does not run: {error}, {more}", flush=True)
        return False
    loss = before - after
    fine = size <= LARGEST and (new <= SLOWEST * old or new <= old + ROOM_US)
    fine = fine and (loss <= case.allowed + 1e-9 if case.task else cosine >= 0.99)
    score = f"{before:.4f} -> {after:.4f} (allowed {case.allowed:.3f})" if case.task else "-"
    print(
        f"{name:28} {size:.3f} of the bytes, {old:8.0f} -> {new:8.0f} us ({new / old:.2f}), cosine {cosine:.4f}, "
        f"score {score}, {more}{'' if fine else '  MISSED'}",
        flush=True,
    )
    return fine


def ours(name: str, case: Case, source: Path, data: str, feed: Path, args: argparse.Namespace, before: float) -> bool:
    """Print one line on what onnxpress makes of a model; whether it is within the limits."""
    made = feed.with_name("ours.onnx")
    try:
        share, cpu = compress(case, source, data, made, args)
    except StepError as error:
        print(f"{name:28} failed: {error}", flush=True)
        return False
    return show(name, case, source, made, feed, args, before, f"MACs in integers {share}, made in {cpu:.0f} CPU s")


def compare(
    peer: str, case: Case, source: Path, data: str, feed: Path, args: argparse.Namespace, before: float
) -> None:
    """Print one line on what another tool makes of the same model and samples, or on why it does not."""
    tool, _, interpreter = peer.partition("=")
    script = Path(__file__).resolve().with_name("quantizers.py")
    python = str(Path(interpreter).absolute()) if os.sep in interpreter else interpreter or sys.executable
    made = feed.with_name("peer.onnx")
    made.unlink(missing_ok=True)
    samples = data if case.task else str(sampled(case, source, data, feed.parent))
    # -P: the modules of this folder are not for the tool to find. Some leave files where they run.
    command = [python, "-P", str(script), tool, str(source), samples, str(made)]
    try:
        _, cpu = run(*command, patience=args.patience, cwd=feed.parent)
    except StepError as error:
        print(f"  {tool:26} failed: {error}", flush=True)
        return
    if not made.exists():
        print(f"  {tool:26} failed: it wrote no file", flush=True)
        return
    show(f"  {tool}", case, source, made, feed, args, before, f"made in {cpu:.0f} CPU s")


def all_of(name: str, case: Case, args: argparse.Namespace) -> bool:
    """Print a line for each tool on one model; whether that of onnxpress is within the limits."""
    source = next(folder / case.file for folder in args.zoo if (folder / case.file).exists())
    before = task(case, args)["value"] if case.task else float("nan")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = calibration(case, args, folder)
        feed = sampled(case, source, data, folder, 1)
        fine = True
        if args.peers_only:
            print(name, flush=True)
        else:
            fine = ours(name, case, source, data, feed, args, before)
        for peer in args.peer:
            compare(peer, case, source, data, feed, args, before)
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, nargs="+", required=True, help="folders, the downloaded models first")
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--pipeline", default=PIPELINE)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--peer", nargs="*", default=[], metavar="TOOL[=PYTHON]", help="of bench/quantizers.py")
    parser.add_argument("--peers-only", action="store_true", help="leave onnxpress out")
    parser.add_argument("--patience", type=float, default=1800, help="seconds that a step may take")
    args = parser.parse_args()
    args.zoo = [folder.resolve() for folder in args.zoo]
    fine = True
    for name in args.only:
        try:
            fine &= all_of(name, CASES[name], args)
        except StepError as error:
            print(f"{name:28} failed: {error}", flush=True)
            fine = False
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
