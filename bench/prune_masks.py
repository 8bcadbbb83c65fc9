"""What masks cost a model: the error of its outputs, for each unit, criterion and repair.

    python bench/prune_masks.py MODEL.onnx --data CALIB.npz [--out DIR] [--sparsity 0.5 ...]

Prints the share of zeros, the rel-L2 of the outputs on the data, and CPU seconds; `--out` keeps the models,
to be scored by a task.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import onnxpress
from onnxpress.ir import Model
from onnxpress.ir.analysis.linear import all_linear_layers

CRITERIA = (
    "criterion=l1 repair=off",
    "criterion=wanda repair=off",
    "criterion=l1",
    "criterion=obs",
    "criterion=obs allocation=global",
)


def pipelines(shares: list[float]) -> Iterator[str]:
    for how in CRITERIA:
        for share in shares:
            yield f"prune{{unit=weight sparsity={share} {how}}}"
        if "allocation" not in how:
            yield f"prune{{unit=n:m {how}}}"


def zeros(model: Model) -> float:
    held = {layer.weight: layer.weight.const for layer in all_linear_layers(model)}
    arrays = [tensor.numpy() for tensor in held.values() if tensor is not None]
    return 1 - sum(map(np.count_nonzero, arrays)) / sum(array.size for array in arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.8, 0.9])
    asked = parser.parse_args()
    print(f"{'zeros':>6} {'rel-L2':>8} {'CPU s':>7}")
    for number, pipeline in enumerate(pipelines(asked.sparsity)):
        model = onnxpress.load(asked.model)
        started = time.process_time()
        report = onnxpress.PassManager(pipeline).run(model, data=asked.data)
        seconds = time.process_time() - started
        error = (report.after.error or {}).get("rel-l2", 0.0)
        print(f"{zeros(model):>6.3f} {error:>8.4f} {seconds:>7.1f}  {pipeline}", flush=True)
        if asked.out is not None:
            asked.out.mkdir(parents=True, exist_ok=True)
            onnxpress.save(model, asked.out / f"{asked.model.stem}-{number}.onnx")


if __name__ == "__main__":
    main()
