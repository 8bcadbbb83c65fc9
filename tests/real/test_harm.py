"""A harmful pass in the middle of a pipeline: found, taken back, and ranked first, in bodies too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import onnxpress as op
from onnxpress.cli.main import main
from onnxpress.ir import Graph, tensor
from onnxpress.passes.manager import registry as registry_module
from onnxpress.passes.manager import text as text_module

from .conftest import published_model

GUILTY = "p2o.Conv.16"
AT = ("--shape", "x=1x3x48x320")
INSIDE = "If_0_then_branch__Inline_0__/encoder/2/reparam_conv/Conv"
"""A node in the branch that silero_vad takes at 16 kHz."""
AT_16_KHZ = ("--value", "sr=16000", "--shape", "input=1x576", "--shape", "state=2x1x128")


@dataclass(frozen=True)
class Stretch(op.Pass):
    """Touch the weight of every Conv, and stretch that of one."""

    name: ClassVar[str] = "stretch"
    effect: ClassVar[op.Effect] = op.Effect.LEARNED
    scope: ClassVar[Any] = "graph"
    idempotent: ClassVar[bool] = False

    def run(self, graph: Graph, ctx: op.Context) -> None:
        for node in graph.nodes:
            weight = node.input(1)
            if node.is_op("Conv") and weight is not None and weight.tensor is not None and len(weight.uses) == 1:
                factor = np.float32(1.3 if node.label in (GUILTY, INSIDE) else 1)
                with ctx.rewriter.apply("stretch", node):
                    ctx.rewriter.set_tensor(weight, tensor((weight.tensor.numpy() * factor).astype(np.float32)))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    places = {
        "fold": "graph.fold:Fold",
        "dce": "graph.dce:Dce",
        "guard": "combinators.guard:Guard",
        "quantize-insert": "quantize.quantize_insert:QuantizeInsert",
    }
    registry = registry_module.Registry(
        [EntryPoint(name, f"onnxpress.passes.{place}", registry_module.GROUP) for name, place in places.items()]
    )
    registry.register(Stretch)
    monkeypatch.setattr(text_module, "default_registry", lambda: registry)

    def call(*args: object) -> str:
        capfd.readouterr()
        assert main([str(arg) for arg in args]) == 0
        return capfd.readouterr().out

    return call


@pytest.fixture(scope="module")
def rec() -> Path:
    return published_model("ppocr4_rec")


def test_it_is_bisected_to_the_pass_and_the_node(run, rec):
    out = run("bisect", rec, "-p", "fold,dce,stretch,quantize-insert", "--when", "rel-l2>0.05", *AT, "--json")
    found: dict[str, Any] = json.loads(out)
    assert (found["pass"], found["position"], found["rule"], found["node"]) == ("stretch", 3, "stretch", GUILTY)


def test_a_guard_takes_it_back_as_if_it_had_not_been_there(run, rec, tmp_path):
    guarded, without = tmp_path / "guarded.onnx", tmp_path / "without.onnx"
    run("run", rec, "-p", "fold,dce,guard{rel-l2=1e-3}(stretch),quantize-insert", *AT, "-o", guarded)
    run("run", rec, "-p", "fold,dce,quantize-insert", *AT, "-o", without)
    assert guarded.read_bytes() == without.read_bytes()


def test_debug_ranks_it_first(run, rec, tmp_path):
    harmed = tmp_path / "harmed.onnx"
    run("run", rec, "-p", "fold,dce,stretch,quantize-insert", *AT, "-o", harmed)
    places = json.loads(run("debug", rec, harmed, *AT, "--json", "--samples", "1"))["places"]
    assert places[0]["node"] == GUILTY
    assert places[0]["mechanism"].startswith("weight quantization: ")
    assert places[0]["born"] > 2 * places[1]["born"]


@pytest.fixture(scope="module")
def vad() -> Path:
    return published_model("silero_vad")


def test_inside_a_branch_it_is_bisected_to_the_node(run, vad):
    asked = ("-p", "fold,dce,stretch,dce", "--when", "rel-l2>1e-3", *AT_16_KHZ)
    found: dict[str, Any] = json.loads(run("bisect", vad, *asked, "--json"))
    assert (found["pass"], found["position"], found["rule"], found["node"]) == ("stretch", 3, "stretch", INSIDE)
    assert found["slice_nodes"] == 1


def test_inside_a_branch_debug_ranks_it_first(run, vad, tmp_path):
    harmed = tmp_path / "harmed.onnx"
    run("run", vad, "-p", "fold,dce,stretch,dce", *AT_16_KHZ, "-o", harmed)
    found = json.loads(run("debug", vad, harmed, *AT_16_KHZ, "--json", "--samples", "1"))
    (place,) = found["places"]
    assert (place["node"], place["body"]) == (INSIDE, "If_0.then_branch")
    assert place["mechanism"].startswith("changed constant: ")
    assert found["compared"] > 80
