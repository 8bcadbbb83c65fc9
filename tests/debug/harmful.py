"""Passes that do harm, and the command line that knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import onnxpress as op
from onnxpress.ir import Graph, tensor


@dataclass(frozen=True)
class Harm(op.Pass):
    """Touch the weight of every Conv and Mul, and stretch one of them."""

    name: ClassVar[str] = "harm"
    effect: ClassVar[op.Effect] = op.Effect.LEARNED
    idempotent: ClassVar[bool] = False

    nth: int = op.option(1, "which weight to stretch, from 1")
    claims: bool = op.option(True, "whether the edits are claimed by a rule")

    def run(self, graph: Graph, ctx: op.Context) -> None:
        count = 0
        for node in graph.nodes:
            weight = node.input(1)
            if not node.is_op("Conv", "Mul") or weight is None or weight.tensor is None or len(weight.uses) > 1:
                continue
            count += 1
            factor = np.float32(1.3 if count == self.nth else 1)
            made = tensor((weight.tensor.numpy() * factor).astype(weight.tensor.numpy().dtype))
            if not self.claims:
                ctx.rewriter.set_tensor(weight, made)
                continue
            with ctx.rewriter.apply("stretch", node):
                ctx.rewriter.set_tensor(weight, made)


@dataclass(frozen=True)
class CrashAtSin(op.Pass):
    """Fail at the first Sin that reads what an Exp made."""

    name: ClassVar[str] = "crash-at-sin"
    effect: ClassVar[op.Effect] = op.Effect.EXACT

    def run(self, graph: Graph, ctx: op.Context) -> None:
        for node in graph.nodes:
            read = node.input(0)
            if node.is_op("Sin") and read is not None and read.producer is not None and read.producer.is_op("Exp"):
                raise KeyError(node.label)
