"""What calibration takes in memory and time with few samples and with many, beside onnxruntime's calibrators.

    python bench/calibrate_memory.py MODEL.onnx --data CALIB.npz [--few 10] [--many 1000] [--limit 8192]

Observes the results of all nodes that are floats, by each method, in a process of its own. Many samples are the few
again and again, so that none is larger. onnxruntime calibrates the same results. A process may take `--limit`
megabytes. Prints peaks of resident memory and CPU seconds, imports included. With many
samples onnxpress may take 5 % more than with few.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

ALLOWED = 1.05
OURS = ("minmax", "average", "percentile", "entropy", "mse")
THEIRS = ("MinMax", "Percentile", "Entropy")
_MB = 1 << 20


class Repeated:
    """`count` samples, the first `few` of some data over and over."""

    def __init__(self, data: Any, few: int, count: int) -> None:
        self.data, self.few, self.count = data, few, count

    def __length_hint__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        rounds = (islice(iter(self.data), self.few) for _ in repeat(None))
        return islice(chain.from_iterable(rounds), self.count)


def peak_bytes() -> int:
    """Of this process: `ru_maxrss` would start with what its parent had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell the peak of a process (VmHWM in /proc/self/status)")


def ours(model_path: Path, data_path: str, method: Any, few: int, count: int) -> int:
    from onnxpress import load
    from onnxpress.api import samples_for
    from onnxpress.backends.interface import Pins
    from onnxpress.backends.ort import OrtBackend
    from onnxpress.ir import Rewriter
    from onnxpress.passes.calibrate.calibrate import calibrate
    from onnxpress.passes.manager.context import Context
    from onnxpress.passes.manager.remarks import Remarks
    from onnxpress.passes.manager.weights import WeightAccount

    model, backend = load(model_path), OrtBackend()
    data = Repeated(samples_for(model, data_path, backend, Pins(), 0), few, count)
    ctx = Context(model, Rewriter(model), backend, Remarks(), WeightAccount(model), data)
    shapes = ctx.shapes()
    values = [value for node in model.graph.nodes for value in node.outputs if shapes.dtype(value) == 1]
    return len(calibrate(ctx, values, method=method))


def theirs(model_path: Path, data_path: str, method: str, few: int, count: int) -> int:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    from onnxpress import load
    from onnxpress.api import samples_for
    from onnxpress.backends.interface import Pins
    from onnxpress.backends.ort import OrtBackend

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            data = samples_for(load(model_path), data_path, OrtBackend(), Pins(), 0)
            self.feeds = iter(Repeated(data, few, count))

        def get_next(self) -> Any:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        kind = getattr(CalibrationMethod, method)
        calibrator = create_calibrator(model_path, None, f"{folder}/augmented.onnx", kind)
        calibrator.collect_data(Reader())
        return len(calibrator.compute_data().data)


def measure(arguments: list[str]) -> dict[str, Any]:
    """Run one calibration in a process of its own; its figures, or what it failed with."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        return {"failure": (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1][:60]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, few: dict[str, Any], many: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [one.get("failure") or f"{one['peak'] / _MB:6.0f} MB {one['seconds']:7.1f} s" for one in (few, many)]
    return f"{name:24} {cells[0]:22} {cells[1]:22} {few.get('values', '')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--limit", type=int, default=8192, help="megabytes of memory that a process may take")
    parser.add_argument("--run", nargs=3, metavar=("TOOL", "METHOD", "COUNT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (asked.limit * _MB, asked.limit * _MB))
        tool, method, count = asked.run
        values = (ours if tool == "onnxpress" else theirs)(asked.model, asked.data, method, asked.few, int(count))
        print(json.dumps({"peak": peak_bytes(), "seconds": time.process_time(), "values": values}))
        return
    common = [str(asked.model), "--data", asked.data, "--few", str(asked.few), "--limit", str(asked.limit)]
    print(f"{'':24} {f'{asked.few} samples':22} {f'{asked.many} samples':22} values")
    grows = []
    for tool, methods in (("onnxpress", OURS), ("onnxruntime", THEIRS)):
        for method in methods:
            few, many = (measure([*common, "--run", tool, method, str(n)]) for n in (asked.few, asked.many))
            print(row(f"{tool} {method}", few, many), flush=True)
            if tool == "onnxpress" and not many.get("peak", 0) <= ALLOWED * few.get("peak", 0):
                grows.append(method)
    print(f"ABOVE THE LIMIT: {', '.join(grows)}" if grows else "onnxpress takes no more memory with more samples")


if __name__ == "__main__":
    main()
