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
import importlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
Vectors = NDArray[np.float32]
Array = np.ndarray[Any, np.dtype[Any]]


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


class Judge:
    """The sentences of the task, and their vectors in fp32."""

    def __init__(self, tasks: Path, model: Path) -> None:
        sys.path.insert(0, str(tasks.parent if tasks.name == "tasks" else tasks))
        self._minilm = importlib.import_module("tasks.minilm")
        common = importlib.import_module("tasks.common")
        with np.load(common.DATA_DIR / "minilm.npz") as arrays:
            self._queries = common.unpack(arrays["q_flat"], arrays["q_shapes"])
            self._documents = common.unpack(arrays["d_flat"], arrays["d_shapes"])
        self.count = len(self._queries)
        self.all_exact = self.vectors(model)
        self.exact = self.judged(self.all_exact)

    def vectors(self, path: Path) -> Vectors:
        """Of queries, then documents, each of length 1."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        texts = (self._queries, self._documents)
        return np.concatenate([self._minilm.embed(session, each) for each in texts])

    def judged(self, vectors: Vectors) -> Vectors:
        """Of the queries and their own documents."""
        return vectors[: 2 * self.count]

    def reciprocal_ranks(self, vectors: Vectors) -> Array:
        """Of the document of each query among all, 0 below rank 10."""
        scores = vectors[: self.count] @ vectors[self.count :].T
        ranks = (scores > np.diag(scores)[:, None]).sum(1) + 1
        return np.where(ranks <= 10, 1 / ranks, 0)

    def cosines(self, vectors: Vectors) -> Array:
        """To fp32, of every sentence that is judged."""
        return np.asarray((self.judged(vectors) * self.exact).sum(1))


def _pairs(vectors: Vectors) -> Array:
    """The cosines of all pairs."""
    return vectors @ vectors.T


def spearman(first: Array, second: Array, rows: NDArray[np.intp]) -> float:
    """Of two matrices of cosines, over all pairs of different sentences in `rows`."""
    upper = np.triu_indices(len(rows), 1)
    differ = rows[upper[0]] != rows[upper[1]]
    left, right = (rows[index][differ] for index in upper)
    ranks = [np.argsort(np.argsort(matrix[left, right])) for matrix in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def intervals(judge: Judge, best: Vectors, others: dict[Method, Vectors]) -> dict[Method, list[tuple[float, float]]]:
    """What `best` has above each other in cosine, Spearman and MRR: 95 % of a paired bootstrap over sentences."""
    rng = np.random.default_rng(0)
    exact, top = _pairs(judge.exact), _pairs(judge.judged(best))
    pairs = {method: _pairs(judge.judged(each)) for method, each in others.items()}
    gains = {method: judge.cosines(best) - judge.cosines(each) for method, each in others.items()}
    ranks = judge.reciprocal_ranks(best)
    wins = {method: ranks - judge.reciprocal_ranks(each) for method, each in others.items()}
    drawn: dict[Method, list[tuple[float, float, float]]] = {method: [] for method in others}
    for _ in range(REPEATS):
        rows = rng.integers(0, len(exact), len(exact))
        ours = spearman(top, exact, rows)
        for method in others:
            cosine, mrr = gains[method][rows].mean(), wins[method][rows[rows < judge.count]].mean()
            drawn[method].append((float(cosine), ours - spearman(pairs[method], exact, rows), float(mrr)))
    return {
        method: [(float(low), float(high)) for low, high in np.percentile(rows, [2.5, 97.5], axis=0).T]
        for method, rows in drawn.items()
    }


def report(judge: Judge, made: dict[Method, Path]) -> bool:
    """Print a table for each kind of grid; whether ours is above onnxruntime's and nearest in cosine and
    Spearman, and not surely below in MRR."""
    exact = _pairs(judge.exact)
    everything = np.arange(len(exact))
    is_best = True
    for symmetric in (True, False):
        vectors = {method: judge.vectors(path) for method, path in made.items() if method.symmetric is symmetric}
        ours = next(method for method in vectors if method.name == "auto")
        above = intervals(judge, vectors[ours], {method: each for method, each in vectors.items() if method != ours})
        in_float = judge.reciprocal_ranks(judge.all_exact).mean()
        print(f"\n{'without' if symmetric else 'with'} zero points (fp32: MRR {in_float:.4f})\n")
        print("| by | rounding | bytes | MatMuls | cosine | ours above | Spearman | ours above | MRR | ours above |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for method, each in vectors.items():
            rho = spearman(_pairs(judge.judged(each)), exact, everything)
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
