"""Static and dynamic quantization of real models beside onnxruntime's own: size, time, score, integer work.

    python bench/quantize.py --zoo DIR --tasks DIR [--only NAME ...] [--pipeline TEXT] [--processes N] [--peers]

`--zoo` holds the models; `--tasks` is the folder of the package `tasks`, whose modules score a model file, give
calibration data and print one line of JSON. Models without a task get generated data. Times: one thread, medians over
processes of interleaved runs. Exit code 1 if a file is larger than .35 of its input, slower than it, or loses more
than is allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
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
        start = time.perf_counter(); session_.run(None, feed); taken[index].append(time.perf_counter() - start)
ya, yb = a.run(None, feed), b.run(None, feed)
pairs = [(x.astype(float).ravel(), y.astype(float).ravel()) for x, y in zip(ya, yb) if x.dtype.kind == "f"]
cosine = min(float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-300)) for x, y in pairs)
print(json.dumps([1e6 * float(np.median(one)) for one in taken] + [cosine]))
"""
PEERS = """
import sys, numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
kind, source, data, target = sys.argv[1:]
if kind == "dynamic":
    quantize_dynamic(source, target, per_channel=True)
else:
    class Reader(CalibrationDataReader):
        def __init__(self):
            held = np.load(data); plain = [k for k in held if "@" not in k]
            if plain:
                self.feeds = iter([{k: held[k][i:i+1] for k in plain} for i in range(len(held[plain[0]]))])
            else:
                names = {k.split("@")[0] for k in held}; count = 1 + max(int(k.split("@")[1]) for k in held)
                self.feeds = iter([{n: held[f"{n}@{i}"] for n in names} for i in range(count)])
        def get_next(self): return next(self.feeds, None)
    quant_pre_process(source, target + ".pre.onnx", skip_symbolic_shape=True)
    quantize_static(target + ".pre.onnx", target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
"""


def run(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, **more)


def task(case: Case, args: argparse.Namespace, *more: str) -> dict[str, Any]:
    command = ["-m", f"tasks.{case.task}", *more, "--variant", case.variant]
    done = run(*command, cwd=args.tasks, env={**os.environ, "ZOO": str(args.zoo[0])})
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def calibration(case: Case, args: argparse.Namespace, folder: Path) -> str:
    if not case.task:
        return "random"
    task(case, args, "--calib", str(folder / "calib.npz"), "--n", "64")
    return str(folder / "calib.npz")


def one_feed(case: Case, source: Path, data: str, folder: Path) -> Path:
    """The first sample as a file of one array an input."""
    import onnxpress
    from onnxpress.backends.interface import Pins

    shapes = {k: tuple(map(int, v.split("x"))) for k, _, v in (p.partition("=") for p in case.pins[1::2]) if "x" in v}
    values = {k: v for k, _, v in (p.partition("=") for p in case.pins[1::2]) if "x" not in v}
    pins = Pins(shapes, {k: np.array(int(v)) for k, v in values.items()})
    model = onnxpress.load(source)
    from onnxpress.api import default_backend, samples_for

    feed = next(iter(samples_for(model, data, default_backend(), pins, 0)))
    target = folder / "feed.npz"
    np.savez(target, **{name: np.asarray(value) for name, value in feed.items()})
    return target


def compress(case: Case, source: Path, data: str, pipeline: str, out: Path) -> str:
    """Run onnxpress; the share of MACs in integers, as it reports."""
    tool = str(Path(sys.executable).parent / "onnxpress")
    shown = ("--no-measure", "--remarks", "applied")
    done = subprocess.run(
        [tool, "run", str(source), "-p", pipeline, "--data", data, *case.pins, *shown, "-o", str(out)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1][:120]}"
    found = re.search(r"(\d+)% of the MACs run in integers", done.stderr)
    return f"{found.group(1)} %" if found else "0 %"


def latency(before: Path, after: Path, feed: Path, processes: int) -> tuple[float, float, float]:
    """Medians over processes in microseconds, and the least cosine."""
    rows = [
        json.loads(run("-c", TIMER, str(before), str(after), str(feed), "200", "20").stdout) for _ in range(processes)
    ]
    a, b, cosine = zip(*rows, strict=True)
    return float(np.median(a)), float(np.median(b)), min(cosine)


def show(name: str, case: Case, source: Path, made: Path, feed: Path, share: str, args: Any, before: float) -> bool:
    """Print one line; whether it is within the limits."""
    try:
        old, new, cosine = latency(source, made, feed, args.processes)
    except subprocess.CalledProcessError as error:
        print(f"{name:28} does not run: {error.stderr.strip().splitlines()[-1][:100]}", flush=True)
        return False
    size = made.stat().st_size / source.stat().st_size
    after = task(case, args, str(made))["value"] if case.task else float("nan")
    loss = before - after
    fine = size <= LARGEST and (new <= SLOWEST * old or new <= old + ROOM_US)
    fine = fine and (loss <= case.allowed + 1e-9 if case.task else cosine >= 0.99)
    score = f"{before:.4f} -> {after:.4f} (allowed {case.allowed:.3f})" if case.task else "-"
    print(
        f"{name:28} {size:.3f} of the bytes, {old:8.0f} -> {new:8.0f} us ({new / old:.2f}), cosine {cosine:.4f}, "
        f"MACs in integers {share}, score {score}{'' if fine else '  MISSED'}",
        flush=True,
    )
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, nargs="+", required=True, help="folders, the downloaded models first")
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--pipeline", default=PIPELINE)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="beside onnxruntime's static and dynamic quantization")
    args = parser.parse_args()
    fine = True
    for name in args.only:
        case = CASES[name]
        source = next(folder / case.file for folder in args.zoo if (folder / case.file).exists())
        before = task(case, args)["value"] if case.task else float("nan")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            data = calibration(case, args, folder)
            feed = one_feed(case, source, data, folder)
            share = compress(case, source, data, args.pipeline, folder / "ours.onnx")
            if share.startswith("failed"):
                print(f"{name:28} {share}", flush=True)
                fine = False
                continue
            fine &= show(name, case, source, folder / "ours.onnx", feed, share, args, before)
            for kind in ("static", "dynamic") if args.peers and case.task else ():
                try:
                    run("-c", PEERS, kind, str(source), data, str(folder / "peer.onnx"))
                except subprocess.CalledProcessError as error:
                    print(f"  onnxruntime {kind:14} failed: {error.stderr.strip().splitlines()[-1][:100]}", flush=True)
                    continue
                show(f"  onnxruntime {kind}", case, source, folder / "peer.onnx", feed, "-", args, before)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
