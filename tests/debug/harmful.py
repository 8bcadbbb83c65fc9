"""Passes that do harm, and the command line that knows them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

import onnxpress as op
from onnxpress.ir import Graph, Node, tensor


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


@dataclass(frozen=True)
class Spoil(op.Pass):
    """Stretch the weight of scale5 a little in each of several ways, or spoil it in another one."""

    name: ClassVar[str] = "spoil"
    effect: ClassVar[op.Effect] = op.Effect.EXACT
    idempotent: ClassVar[bool] = False

    how: Literal["behind", "alone", "hang", "kill", "exit", "break", "refuse", "tamper"] = op.option("alone", "the way")
    by: float = op.option(1.3, "the factor")

    def run(self, graph: Graph, ctx: op.Context) -> None:
        nodes = [node for node in graph.nodes if node.is_op("Mul")]
        at = next((node for node in nodes if node.label == "scale5"), None)
        if self.how == "behind":  # an application that does no harm, and then harm that no rule claims
            with ctx.rewriter.apply("harmless", nodes[0]):
                self._stretch(ctx, nodes[0], 1)
        if at is None:
            return
        if self.how in ("behind", "alone"):
            self._stretch(ctx, at, self.by)
        elif self.how == "tamper":
            at._inputs[1] = nodes[0].inputs[1]
        elif self.how == "hang":
            while True:
                pass
        elif self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "exit":
            os._exit(0)
        elif self.how == "break":  # an attribute that the operator does not have
            with ctx.rewriter.apply("break", at):
                ctx.rewriter.set_attribute(at, "colour", 1)
        else:  # an operator that nobody has
            with ctx.rewriter.apply("refuse", at):
                made = ctx.rewriter.insert("Colour", at.inputs, before=at)
                ctx.rewriter.replace(at.outputs[0], made.outputs[0])

    def _stretch(self, ctx: op.Context, node: Node, factor: float) -> None:
        weight = node.inputs[1]
        ctx.rewriter.set_tensor(weight, tensor(weight.tensor.numpy() * np.float32(factor)))
