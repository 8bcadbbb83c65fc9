"""A small model, contexts to run it in, and samples that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Model, Rewriter, Value, lower
from onnxpress.passes.manager.context import Context, Feed
from onnxpress.passes.manager.remarks import Remarks
from onnxpress.passes.manager.weights import WeightAccount
from onnxpress.specs import model_of

TEXT = """
    g (float[n, 8] x, bool c) => (float[n, 8] y) {
        a = Relu (x)
        b = If (c) <
            then_branch = t () => (float[n, 8] p) { q = Exp (a) p = Neg (q) },
            else_branch = e () => (float[n, 8] r) { q = Neg (x) r = Tanh (q) }
        >
        z = Log (a)
        y = Add (b, x)
    }"""


class Feeds:
    """Samples of rows drawn anew at each walk; `walks` counts these."""

    def __init__(self, count: int, rows: int = 16, scale: float = 1.0, *, always: bool = False) -> None:
        self.count, self.rows, self.scale, self.always = count, rows, scale, always
        self.walks = 0

    def __length_hint__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Feed]:
        self.walks += 1
        for seed in range(self.count):
            x = self.scale * np.random.default_rng(seed).normal(size=(self.rows, 8))
            yield {"x": x.astype(np.float32), "c": np.array(self.always or seed % 2 == 0)}


def model(text: str = TEXT) -> Model:
    return lower(model_of(text))


def context(model: Model, samples: Iterable[Feed] | None) -> Context:
    return Context(model, Rewriter(model), OrtBackend(), Remarks(), WeightAccount(model), samples)


def values_of(model: Model) -> dict[str, Value]:
    """All results of nodes, bodies included, by place and name."""
    return {
        f"{place}/{value.name}": value
        for place, graph in enumerate(model.walk_graphs())
        for node in graph.nodes
        for value in node.outputs
    }
