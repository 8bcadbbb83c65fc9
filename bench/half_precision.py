"""What 16 bits cost on real tasks: bytes, score and latency before and after, for each way.

    python bench/half_precision.py --zoo DIR --tasks DIR [--data DIR] [--only NAME ...] [--no-latency]

`--zoo` holds the models; `--tasks` is the folder of the package `tasks`, whose modules score a model file and print one
line of JSON. `--data` holds sample data called `TASK_VARIANT.npz`, on which `float{compute}` looks at ranges; without
them it does not. Latency is the median ratio of interleaved runs of onnxruntime on one thread, on generated inputs.
Exit code 1 if a file is larger than half of its bytes of float32 plus all others plus 2 %.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper
from quantize_weights import Task, chosen, options_of, score

import onnxpress as op
from onnxpress.backends.generate import generate_feeds
from onnxpress.backends.messages import walk_tensors
from onnxpress.backends.ort import OrtBackend

WAYS = ("float", "float{to=bfloat16}", "float{compute}")
RUNS = 40


def allowed(path: Path) -> float:
    """Half of the bytes of float32 plus all others, plus 2 %."""
    held = (one.tensor for one in walk_tensors(onnx.load(path)))
    floats = sum(numpy_helper.to_array(one).nbytes for one in held if one.data_type == TensorProto.FLOAT)
    return 1.02 * (path.stat().st_size - floats / 2)


def latency(before: Path, after: Path) -> float:
    """The median time of the second model over that of the first."""
    models = [op.load(path) for path in (before, after)]
    sessions = [OrtBackend().prepare(model, optimize=True) for model in models]
    (feed,) = generate_feeds(onnx.load(before), sessions[0], n=1, seed=0).feeds
    times: list[list[float]] = [[], []]
    for _ in range(RUNS):
        for taken, session in zip(times, sessions, strict=True):
            started = time.perf_counter()
            session.run(feed)
            taken.append(time.perf_counter() - started)
    return statistics.median(times[1]) / statistics.median(times[0])


def compress(task: Task, before: Path, way: str, data: Path | None, out: Path) -> op.Report:
    model = op.load(before)
    samples = None if data is None else data / f"{task.module}_{task.variant}.npz"
    known = "compute" in way and samples is not None and samples.exists()
    report = op.PassManager(way, measure=False).run(model, data=str(samples) if known else None)
    op.save(model, out)
    return report


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--no-latency", action="store_true")
    options = parser.parse_args()
    zoo, tasks, failed = options.zoo.resolve(), options.tasks.resolve(), False
    print("| task | variant | way | bytes | ratio | allowed | kept | score before | after | loss | latency |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for task in chosen(options):
            before, after = zoo / task.file, Path(folder) / "after.onnx"
            first, size, limit = score(task, before, zoo, tasks), before.stat().st_size, allowed(before)
            for way in WAYS:
                report = compress(task, before, way, options.data, after)
                found, taken = score(task, after, zoo, tasks), after.stat().st_size
                failed |= taken > limit
                kept = sum(w.nbytes for w in report.weights if w.dtype == "float" and str(w.outcome) == "kept")
                ratio = "" if options.no_latency else f"{latency(before, after):.2f}"
                print(
                    f"| {task.module} | {task.variant} | `{way}` | {taken:,} | {taken / size:.3f} | {limit / size:.3f} "
                    f"| {kept:,} | {first:.4f} | {found:.4f} | {first - found:.4f} | {ratio} |",
                    flush=True,
                )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
