"""Quantized files of MiniLM, judged by their sentence vectors: what of a difference is chance.

    python bench/sentences.py --model minilm/model.onnx --tasks DIR FIRST.onnx OTHER.onnx ...

`--model` is the model in float, `--tasks` the folder of the package `tasks` (its `minilm` has the sentences and the
score). Printed are the mean cosine to float over sentences, Spearman's correlation of the cosines of all pairs with
those of float, MRR@10, and what FIRST has above each other: 95 % of a paired bootstrap over sentences. Exit code 1 if
FIRST is surely below one of them in MRR.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

REPEATS = 1000
Vectors = NDArray[np.float32]
Array = np.ndarray[Any, np.dtype[Any]]
Key = TypeVar("Key")


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


def pairs(vectors: Vectors) -> Array:
    """The cosines of all pairs."""
    return vectors @ vectors.T


def spearman(first: Array, second: Array, rows: NDArray[np.intp]) -> float:
    """Of two matrices of cosines, over all pairs of different sentences in `rows`."""
    upper = np.triu_indices(len(rows), 1)
    differ = rows[upper[0]] != rows[upper[1]]
    left, right = (rows[index][differ] for index in upper)
    ranks = [np.argsort(np.argsort(matrix[left, right])) for matrix in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def intervals(
    judge: Judge, best: Vectors, others: dict[Key, Vectors], repeats: int
) -> dict[Key, list[tuple[float, float]]]:
    """What `best` has above each other in cosine, Spearman and MRR: 95 % of a paired bootstrap over sentences."""
    rng = np.random.default_rng(0)
    exact, top = pairs(judge.exact), pairs(judge.judged(best))
    cosines = {method: pairs(judge.judged(each)) for method, each in others.items()}
    gains = {method: judge.cosines(best) - judge.cosines(each) for method, each in others.items()}
    ranks = judge.reciprocal_ranks(best)
    wins = {method: ranks - judge.reciprocal_ranks(each) for method, each in others.items()}
    drawn: dict[Key, list[tuple[float, float, float]]] = {method: [] for method in others}
    for _ in range(repeats):
        rows = rng.integers(0, len(exact), len(exact))
        ours = spearman(top, exact, rows)
        for method in others:
            cosine, mrr = gains[method][rows].mean(), wins[method][rows[rows < judge.count]].mean()
            drawn[method].append((float(cosine), ours - spearman(cosines[method], exact, rows), float(mrr)))
    return {
        method: [(float(low), float(high)) for low, high in np.percentile(rows, [2.5, 97.5], axis=0).T]
        for method, rows in drawn.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--model", type=Path, required=True, help="in float")
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of the bootstrap")
    options = parser.parse_args()
    judge = Judge(options.tasks.resolve(), options.model)
    vectors = {path: judge.vectors(path) for path in options.files}
    first = options.files[0]
    above = intervals(judge, vectors[first], {path: vectors[path] for path in options.files[1:]}, options.repeats)
    exact, everything = pairs(judge.exact), np.arange(len(judge.exact))
    print(f"in float: MRR {judge.reciprocal_ranks(judge.all_exact).mean():.4f}\n")
    print("| file | cosine | first above | Spearman | first above | MRR | first above |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for path, each in vectors.items():
        rho = spearman(pairs(judge.judged(each)), exact, everything)
        figures = (judge.cosines(each).mean(), rho, judge.reciprocal_ranks(each).mean())
        told = [f"{low:+.4f} to {high:+.4f}" for low, high in above.get(path, [])] or ["", "", ""]
        cells = (f"{figure:.4f} | {gain}" for figure, gain in zip(figures, told, strict=True))
        print(f"| {path.name} | {' | '.join(cells)} |")
    return 0 if all(high >= 0 for *_, (_, high) in above.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
