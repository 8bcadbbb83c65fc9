"""What a `guard(...)` that rolls back costs in memory, on top of the passes inside it.

    python bench/guard_memory.py [--mb 1024] [--layers 16] [-p PIPELINE]

Makes a model of that size with external data in a temporary folder, and runs the pipeline alone and inside a guard that
takes everything back, each in a process of its own with a stubbed executor, whose outputs always differ. Prints the
peaks of resident memory, mapped pages of the data file included. Allowed on top of the inside alone is the largest
tensor that it rewrites and 5 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ALLOWED = 0.05
"""Of the peak of the inside alone, above the largest tensor."""
GUARD = "guard{rel-l2=1e-9}"
_MB = 1 << 20


def write_model(folder: Path, mb: int, layers: int) -> tuple[Path, int]:
    """A chain of square MatMuls with `mb` megabytes of weights in a data file; its path, and bytes of one weight."""
    from onnx import TensorProto, helper, save

    width = int((mb * _MB / layers / 4) ** 0.5)
    nbytes = 4 * width * width
    rng, weights, nodes = np.random.default_rng(0), [], []
    with (folder / "weights.bin").open("wb") as file:
        for layer in range(layers):
            file.write(rng.standard_normal((width, width), np.float32).tobytes())
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=(width, width))
            weight.data_location = TensorProto.EXTERNAL
            where = {"location": "weights.bin", "offset": str(layer * nbytes), "length": str(nbytes)}
            for key, value in where.items():
                weight.external_data.add(key=key, value=value)
            weights.append(weight)
            nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"]))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in ("x0", f"x{layers}")]
    graph = helper.make_graph(nodes, "chain", ports[:1], ports[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    return folder / "model.onnx", nbytes


class StubSession:
    """A session that gives every model other numbers."""

    def __init__(self, model: Any, number: int) -> None:
        from onnxpress.ir import Port

        self.inputs = tuple(Port(value.name, 1, ("n", 4)) for value in model.graph.inputs)
        self.outputs = tuple(Port(value.name, 1, ("n", 4)) for value in model.graph.outputs)
        self._number = number

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {port.name: np.full((1, 4), self._number, np.float32) for port in self.outputs}


class StubBackend:
    """An executor that runs nothing and holds nothing."""

    name = "stub"

    def __init__(self) -> None:
        self.prepared = 0

    def prepare(
        self, model: Any, *, outputs: Sequence[str] | None = None, optimize: bool = False, threads: int = 1
    ) -> StubSession:
        self.prepared += 1
        return StubSession(model, self.prepared)


def peak_bytes() -> int:
    """Of this process: `ru_maxrss` would start with what its parent had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell the peak of a process (VmHWM in /proc/self/status)")


def run(model: Path, pipeline: str) -> dict[str, Any]:
    """Run a pipeline here; the peak of the process, and what the top pass made of it."""
    import onnxpress

    backend = StubBackend()
    guarded = pipeline.startswith("guard")
    manager = onnxpress.PassManager(pipeline, backend=backend, measure=guarded, samples=1)
    loaded = onnxpress.load(model)
    width = next(v.tensor.shape[0] for v in loaded.graph.initializers if v.tensor is not None)
    report = manager.run(loaded, data=[{"x0": np.ones((1, width), np.float32)}] if guarded else None)
    top = report.steps[0]
    inside = top.children[0] if guarded else top
    return {"peak": peak_bytes(), "edits": sum(inside.edits.values()), "changed": report.changed}


def measure(model: Path, pipeline: str) -> dict[str, Any]:
    """Run a pipeline in a process of its own."""
    command = [sys.executable, __file__, "--run", str(model), "-p", pipeline]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def peaks(mb: int, layers: int, pipeline: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The inside alone, the guard around it, and the bytes of the largest tensor."""
    with tempfile.TemporaryDirectory() as folder:
        model, largest = write_model(Path(folder), mb, layers)
        alone, guarded = measure(model, pipeline), measure(model, f"{GUARD}({pipeline})")
    if guarded["changed"] or not guarded["edits"] == alone["edits"] > 0:
        raise SystemExit(f"the passes inside were not run and taken back: {alone}, {guarded}")
    return alone, guarded, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("-p", "--pipeline", default="quantize-insert{rounding=nearest clip=none bias-correction=false}")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run is not None:
        print(json.dumps(run(asked.run, asked.pipeline)))
        return
    alone, guarded, largest = peaks(asked.mb, asked.layers, asked.pipeline)
    limit = alone["peak"] * (1 + ALLOWED) + largest
    verdict = "holds" if guarded["peak"] <= limit else "is above the limit"
    print(
        f"{asked.mb} MB of weights, the largest {largest / _MB:.0f} MB; {asked.pipeline} makes {alone['edits']} edits"
    )
    print(f"inside alone {alone['peak'] / _MB:7.0f} MB")
    print(f"rolled back  {guarded['peak'] / _MB:7.0f} MB, at most {limit / _MB:.0f} MB allowed: {verdict}")


if __name__ == "__main__":
    main()
