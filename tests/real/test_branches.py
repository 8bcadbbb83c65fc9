"""Silero VAD keeps all its layers in branches of an If: harm is found there, and cut out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

import onnxpress as op
from onnxpress.cli.main import main
from onnxpress.ir import Graph, tensor
from onnxpress.passes.manager import registry as registry_module
from onnxpress.passes.manager import text as text_module

from .conftest import published_model

GUILTY = "If_0_then_branch__Inline_0__/encoder/2/reparam_conv/Conv"


@dataclass(frozen=True)
class StretchInBranches(op.Pass):
    """Touch the weight of every Conv in every branch, and stretch that of one; or fail there."""

    name: ClassVar[str] = "stretch-in-branches"
    effect: ClassVar[op.Effect] = op.Effect.LEARNED
    idempotent: ClassVar[bool] = False
    scope: ClassVar[str] = "graph"

    fail: bool = op.option(False, "whether to fail instead")

    def run(self, graph: Graph, ctx: op.Context) -> None:
        for node in graph.nodes:
            weight = node.input(1)
            if not node.is_op("Conv") or weight is None or weight.const is None:
                continue
            if self.fail and node.label == GUILTY:
                raise LookupError(node.label)
            factor = np.float32(1.3 if node.label == GUILTY else 1)
            with ctx.rewriter.apply("stretch", node):
                ctx.rewriter.replace_by_constant(weight, tensor(weight.const.numpy() * factor))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    registry = registry_module.Registry(())
    registry.register(StretchInBranches)
    monkeypatch.setattr(text_module, "default_registry", lambda: registry)

    def call(*args: object) -> tuple[int, str]:
        capfd.readouterr()
        return main([str(arg) for arg in args]), capfd.readouterr().out

    return call


@pytest.fixture(scope="module")
def vad() -> Path:
    return published_model("silero_vad")


def test_it_is_bisected_to_the_node_in_its_branch(run, vad, tmp_path):
    out = tmp_path / "slice.onnx"
    asked = ("-p", "stretch-in-branches", "--when", "max-abs>1e-3", "--value", "sr=16000")
    code, text = run("bisect", vad, *asked, "--json", "-o", out)
    found = json.loads(text)
    assert (code, found["node"], found["rule"]) == (0, GUILTY, "stretch")
    small = onnx.load(out)
    assert [node.op_type for node in small.graph.node if node.op_type != "Constant"] == ["Conv"]
    onnx.checker.check_model(small, full_check=True)


def test_a_failure_in_a_branch_leaves_one_layer(run, vad, tmp_path):
    code, _ = run("run", vad, "-p", "stretch-in-branches{fail}", "--reproducer", tmp_path)
    folder = tmp_path / "onnxpress-reproducer-1"
    assert code == 3
    assert {node.op_type for node in onnx.load(folder / "model.onnx").graph.node} <= {"Conv", "Constant"}
    assert run("reproduce", folder)[0] == 0
