"""MiniLM's MatMuls in 4 bits, blocks of 32, by several roundings: how near the sentence vectors stay to fp32.

    python bench/quantize_int4.py --model minilm/model.onnx --tasks DIR --data CALIB.npz [--peers PYTHON]

`--tasks` is the folder of the package `tasks` (its `minilm` has the sentences and the score), `--data` what all methods
calibrate on, `--peers` an interpreter that has onnxruntime's quantizers (default: this one). All files hold the same
MatMulNBits nodes, with as many codes, scales and zero points; tables of embeddings stay in float. onnxruntime's GPTQ
asks torch whether there is CUDA and nothing else: where torch is not installed, a stand-in says no.

Printed are the mean cosine to fp32 over sentences, Spearman's correlation of the cosines of all pairs with those of
fp32, MRR@10, and what the first line has above the others: 95 % of a paired bootstrap over sentences.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sentences import Judge, intervals, pairs, spearman

PIPELINE = "fold,dce,quantize-insert{{type={type} symmetric={symmetric} format=nbits exclude=[*embeddings*] {more}}}"
WAYS = {
    "auto": "rounding=auto",
    "gptq": "rounding=gptq",
    "auto-alone": "rounding=auto sequential=false",
    "gptq-alone": "rounding=gptq sequential=false",
    "nearest": "rounding=nearest clip=none",
}
"""Names of our roundings, and the options that they are."""
PEERS = ("rtn", "gptq")
REPEATS = 200


class Method(NamedTuple):
    """How a file was made: by whom, with which rounding, without or with zero points."""

    by: str
    name: str
    symmetric: bool


def methods() -> list[Method]:
    """Those compared, ours with all that it has first; each layer alone without zero points only."""
    found = []
    for symmetric in (True, False):
        found += [Method("onnxpress", name, symmetric) for name in WAYS if symmetric or not name.endswith("-alone")]
        found += [Method("onnxruntime", name, symmetric) for name in PEERS]
    return found


# ---- making files


def make(method: Method, model: Path, data: Path, out: Path, peers: str) -> None:
    """Write the quantized model; CalledProcessError if its maker fails."""
    if method.by == "onnxruntime":
        command = [peers, __file__, "--peer", method.name, str(method.symmetric), str(model), str(data), str(out)]
    else:
        text = PIPELINE.format(type="uint4", symmetric=str(method.symmetric).lower(), more=WAYS[method.name])
        onnxpress = str(Path(sys.executable).parent / "onnxpress")
        command = [onnxpress, "run", str(model), "-p", text, "-o", str(out), "--data", str(data), "--no-measure"]
    subprocess.run(command, check=True, capture_output=True)


def peer(name: str, symmetric: bool, model: str, data: str, out: str) -> None:
    """Runs in the peers' interpreter."""
    import onnx

    if name.startswith("gptq") and importlib.util.find_spec("torch") is None:
        _stand_in_for_torch()
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(_feeds(data))

        def get_next(self) -> Any:
            return next(self._feeds, None)

    configs: dict[str, Callable[[], Any]] = {
        "rtn": lambda: None,
        "gptq": lambda: nbits.GPTQWeightOnlyQuantConfig(Reader(), block_size=128),
    }
    quantizer = nbits.MatMulNBitsQuantizer(
        model, bits=4, block_size=32, is_symmetric=symmetric, algo_config=configs[name]()
    )
    quantizer.process()
    onnx.save(quantizer.model.model, out)


def _stand_in_for_torch() -> None:
    from importlib.machinery import ModuleSpec
    from types import ModuleType, SimpleNamespace

    torch = ModuleType("torch")
    torch.__spec__ = ModuleSpec("torch", None)
    torch.__dict__.update(cuda=SimpleNamespace(is_available=lambda: False), Tensor=type("Tensor", (), {}))
    sys.modules["torch"] = torch


def _feeds(path: str) -> list[dict[str, Any]]:
    """Samples of a file with the keys NAME@0, NAME@1, ..."""
    found: dict[int, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            name, index = key.rsplit("@", 1)
            found.setdefault(int(index), {})[name] = arrays[key]
    return [found[index] for index in sorted(found)]


def folded(model: Path, out: Path) -> None:
    """The model with its weights as MatMul reads them, which onnxruntime's quantizers need and ours does not."""
    onnxpress = str(Path(sys.executable).parent / "onnxpress")
    subprocess.run([onnxpress, "run", str(model), "-p", "fold,dce", "-o", str(out)], check=True, capture_output=True)


def matmuls(path: Path) -> int:
    """How many MatMulNBits a file has."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return sum(node.op_type == "MatMulNBits" for node in nodes)


# ---- judging


def report(judge: Judge, made: dict[Method, Path]) -> bool:
    """Print a table for each kind of grid; whether ours is above onnxruntime's and nearest in cosine and
    Spearman, and not surely below in MRR."""
    exact = pairs(judge.exact)
    everything = np.arange(len(exact))
    is_best = True
    for symmetric in (True, False):
        vectors = {method: judge.vectors(path) for method, path in made.items() if method.symmetric is symmetric}
        ours = next(method for method in vectors if method.name == "auto")
        above = intervals(
            judge, vectors[ours], {method: each for method, each in vectors.items() if method != ours}, REPEATS
        )
        in_float = judge.reciprocal_ranks(judge.all_exact).mean()
        print(f"\n{'without' if symmetric else 'with'} zero points (fp32: MRR {in_float:.4f})\n")
        print("| by | rounding | bytes | MatMuls | cosine | ours above | Spearman | ours above | MRR | ours above |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for method, each in vectors.items():
            rho = spearman(pairs(judge.judged(each)), exact, everything)
            told = [f"{low:+.4f} to {high:+.4f}" for low, high in above.get(method, [])] or ["", "", ""]
            print(
                f"| {method.by} | {method.name} | {made[method].stat().st_size:,} | {matmuls(made[method])} "
                f"| {judge.cosines(each).mean():.4f} | {told[0]} | {rho:.4f} "
                f"| {told[1]} | {judge.reciprocal_ranks(each).mean():.4f} | {told[2]} |",
                flush=True,
            )
            if method in above and (method.by == "onnxruntime" or method.name == "nearest"):
                is_best &= all(low > 0 for low, _ in above[method][:2]) and above[method][2][1] >= 0
    return is_best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--keep", type=Path, help="leave the files in this folder, and take those that are there")
    options = parser.parse_args()
    made: dict[Method, Path] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        plain = folder / "folded.onnx"
        folded(options.model, plain)
        for method in methods():
            out = folder / f"{method.by}-{method.name}-{'symmetric' if method.symmetric else 'affine'}.onnx"
            began = time.perf_counter()
            if not out.exists():
                source = plain if method.by == "onnxruntime" else options.model
                make(method, source.resolve(), options.data.resolve(), out.resolve(), options.peers)
                print(f"{out.name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            made[method] = out
        return 0 if report(Judge(options.tasks.resolve(), plain), made) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        name, symmetric, model, data, out = sys.argv[2:]
        peer(name, symmetric == "True", model, data, out)
    else:
        sys.exit(main())
