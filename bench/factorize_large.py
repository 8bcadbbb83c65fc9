"""Seconds and memory of factorizing one large matrix, by default 8192 x 8192 (a file of 268 MB).

    python bench/factorize_large.py [SIZE] [OPTIONS, by default rank=256]

The matrix has singular values that fall like 1 / i, in random directions.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
from onnx import ModelProto, helper, numpy_helper

import onnxpress


def model(size: int) -> ModelProto:
    """One product with a matrix of that size."""
    random = np.random.default_rng(0)
    thin = [np.linalg.qr(random.standard_normal((size, 512)).astype(np.float32))[0] for _ in range(2)]
    weight = (thin[0] / np.arange(1, 513, dtype=np.float32)) @ thin[1].T
    x, y = (helper.make_tensor_value_info(name, 1, ["n", size]) for name in "xy")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "large", [x], [y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    options = sys.argv[2] if len(sys.argv) > 2 else "rank=256"
    source = onnxpress.load(model(size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    report = onnxpress.PassManager(f"factorize{{{options}}}", measure=False).run(source)
    taken = time.process_time() - started
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    (row,) = report.layers
    print(f"{size} x {size}, {options}: {taken:.1f} CPU s, {more / 1024:.0f} MB more than before at the peak, file "
          f"{4 * size * size / 2**20:.0f} MB; rank {row.cells['rank']}, {row.cells['kept']}")  # fmt: skip


if __name__ == "__main__":
    main()
