"""What types of activations and formats cost in onnxruntime: operators alone, and whole models.

    python bench/quantize_types.py [MODEL.onnx CALIB.npz ...]

Without models: each operator between two Sigmoids, by type of activations; `fused` says whether onnxruntime
computes it in integers. With models: `simplify,quantize-insert{mode=static error=0.5}` with each type and format, and
the float model. CPU time in interleaved runs of one thread, medians.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, numpy_helper, parser

import onnxpress
from onnxpress.api import default_backend, samples_for
from onnxpress.backends.interface import Pins
from onnxpress.ir import emit, lower

OPERATORS = {
    "Conv 64x64x3x3": ("b = Conv<pads = [1,1,1,1]>(a, k)", "1,64,28,28", {"k": (64, 64, 3, 3)}),
    "MatMul 384x384": ("b = MatMul(a, m)", "128,384", {"m": (384, 384)}),
    "Gemm 384x384": ("b = Gemm(a, m)", "128,384", {"m": (384, 384)}),
    "Add": ("b = Add(a, a)", "1,64,28,28", {}),
    "Mul": ("b = Mul(a, a)", "1,64,28,28", {}),
    "Concat": ("b = Concat<axis = 1>(a, a)", "1,64,28,28", {}),
    "Sigmoid": ("b = Sigmoid(a)", "1,64,28,28", {}),
    "Softmax": ("b = Softmax(a)", "1,64,28,28", {}),
    "GlobalAveragePool": ("b = GlobalAveragePool(a)", "1,64,28,28", {}),
    "MaxPool": ("b = MaxPool<kernel_shape = [2,2]>(a)", "1,64,28,28", {}),
    "Transpose": ("b = Transpose(a)", "1,64,28,28", {}),
}
TYPES = ("uint8", "int8", "uint16", "int16")
VARIANTS = (
    "format=qdq",
    "format=qoperator",
    "latency=off",
    "latency=off activations=int8",
    "latency=off activations=uint16",
)
RUNS = 100


def compressed(model: Any, options: str, data: Any) -> ModelProto:
    loaded = onnxpress.load(model) if isinstance(model, Path) else lower(model)
    pipeline = f"simplify,quantize-insert{{mode=static rounding=nearest bias-correction=false {options}}}"
    onnxpress.PassManager(pipeline, measure=False).run(loaded, data=data)
    return emit(loaded)


def session(model: ModelProto, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def medians(sessions: Sequence[onnxruntime.InferenceSession], feed: Mapping[str, Any]) -> list[float]:
    """Microseconds of CPU time of each, in interleaved runs."""
    taken: list[list[float]] = [[] for _ in sessions]
    for _ in range(RUNS):
        for times, one in zip(taken, sessions, strict=True):
            start = time.process_time()
            one.run(None, dict(feed))
            times.append(time.process_time() - start)
    return [float(np.median(times)) * 1e6 for times in taken]


def operators(folder: Path) -> None:
    rng = np.random.default_rng(0)
    print("| operator | float | " + " | ".join(TYPES) + " |\n| --- | --- |" + " --- |" * len(TYPES))
    for name, (node, shape, weights) in OPERATORS.items():
        rank = "pqrs"[: shape.count(",") + 1]
        text = f"g (float[{shape}] x) => (float[{','.join(rank)}] y) {{ a = Sigmoid(x) {node} y = Sigmoid(b) }}"
        model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')
        held = {key: rng.standard_normal(size).astype(np.float32) for key, size in weights.items()}
        model.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in held.items())
        feed = {"x": rng.standard_normal([int(size) for size in shape.split(",")]).astype(np.float32)}
        sessions, marks = [session(model)], [""]
        for kind in TYPES:
            made = compressed(model, f"latency=off error=100 activations={kind}", [feed])
            sessions.append(session(made, folder / "optimized.onnx"))
            marks.append("" if reads_floats(onnx.load(folder / "optimized.onnx"), name.split()[0]) else " fused")
        times = medians(sessions, feed)
        print(f"| {name} | " + " | ".join(f"{us:.0f}{mark}" for us, mark in zip(times, marks, strict=True)) + " |")


def reads_floats(model: ModelProto, op_type: str) -> bool:
    """Whether anything reads what is decoded in front of it; around the operator stand Sigmoids."""
    decoded = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    readers = {node.op_type for node in model.graph.node if decoded & {*node.input}}
    return bool(readers - {"QuantizeLinear", "Sigmoid"}) or (op_type == "Sigmoid" and "Sigmoid" in readers)


def models(pairs: Sequence[str]) -> None:
    print("| model | float, ms | " + " | ".join(VARIANTS) + " |\n| --- | --- |" + " --- |" * len(VARIANTS))
    for path, data in zip(pairs[::2], pairs[1::2], strict=True):
        feed = dict(next(iter(samples_for(onnxpress.load(path), data, default_backend(), Pins(), 0))))
        made = [compressed(Path(path), f"error=0.5 {variant}", data) for variant in VARIANTS]
        first, *others = medians([session(onnx.load(path)), *map(session, made)], feed)
        print(f"| {Path(path).stem} | {first / 1e3:.3f} | " + " | ".join(f"{first / us:.2f} x" for us in others) + " |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        models(sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as place:
            operators(Path(place))
