"""Runs of every kind are replayed to the same bytes, and tell nothing that another machine would not know."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import onnxpress as op
from onnxpress.ir import Graph, tensor
from onnxpress.passes.manager.provenance import KEY

from .conftest import weights


@dataclass(frozen=True)
class Jitter(op.Pass):
    """Move every weight by chance."""

    name: ClassVar[str] = "replay-jitter"
    effect: ClassVar[op.Effect] = op.Effect.LEARNED
    idempotent: ClassVar[bool] = False

    def run(self, graph: Graph, ctx: op.Context) -> None:
        for value in graph.initializers:
            if value.tensor is not None and value.tensor.size > 100:
                noise = ctx.rng.normal(size=value.tensor.shape) * 1e-3
                ctx.rewriter.set_tensor(value, tensor((value.tensor.numpy() + noise).astype(np.float32)))


op.register_pass(Jitter)

RUNS = {
    "a guard that keeps": ["-p", "fold,guard{rel-l2=0.5}(quantize-insert),dce"],
    "a guard that takes back": ["-p", "fold,guard{max-abs=0}(quantize-insert),dce"],
    "a budget that takes back": ["-p", "fold,quantize-insert,dce", "--budget", "rel-l2=1e-6"],
    "pinned sizes": ["-p", "fold,guard{rel-l2=0.5}(quantize-insert)", "--shape", "x=3x64"],
    "chance": ["-p", "fold,replay-jitter,repeat{times=2}(replay-jitter),dce", "--seed", "7"],
    "chance that is taken back in between": ["-p", "guard{max-abs=0}(replay-jitter),replay-jitter"],
    "numbers verified": ["-p", "fixpoint(fold,dce),quantize-insert", "--verify-each=numbers"],
}


@pytest.mark.parametrize("args", RUNS.values(), ids=RUNS)
def test_it_is_replayed_to_the_same_bytes(cli, tmp_path, model, args):
    out, new = tmp_path / "out.onnx", tmp_path / "new.onnx"
    done = cli("run", model, *args, "-o", out, "--provenance")
    assert done.code == 0, done.err
    again = cli("replay", out, "--input", model, "-o", new)
    assert (again.code, again.out) == (0, "the same bytes\n"), again.err
    assert new.read_bytes() == out.read_bytes()
    told = out.read_bytes()
    assert str(tmp_path).encode() not in told


def test_another_seed_gives_other_bytes(cli, tmp_path, model):
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    for out, seed in ((one, 1), (two, 2)):
        assert cli("run", model, "-p", "replay-jitter", "--seed", seed, "-o", out, "--provenance").code == 0
    assert one.read_bytes() != two.read_bytes()


def test_what_was_taken_back_is_in_nobodys_story(cli, tmp_path, model):
    out = tmp_path / "out.onnx"
    cli("run", model, "-p", "fold,guard{max-abs=0}(quantize-insert),dce", "-o", out, "--provenance")
    stories = [json.loads(entry.value)["nodes"] for entry in onnx.load(out).metadata_props if entry.key == KEY]
    assert "quantize-insert" not in json.dumps(stories)


def test_a_pinned_value_is_replayed(cli, tmp_path):
    model = tmp_path / "m.onnx"
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 64] x, int64 factor) => (float[n, 32] y) {
            f = Cast <to = 1> (factor) z = MatMul (x, w) y = Mul (z, f)
        }"""
    proto = parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(weights(64, 32), "w"))
    onnx.save(proto, model)
    out = tmp_path / "out.onnx"
    guarded = "guard{rel-l2=0.5}(quantize-insert)"
    assert cli("run", model, "-p", guarded, "--value", "factor=3", "-o", out, "--provenance").code == 0
    assert cli("replay", out, "--input", model).out == "the same bytes\n"


def branching(ir_version: int) -> onnx.ModelProto:
    """A weight in each branch of an If, and one in a function."""
    text = f"""<ir_version: {ir_version}, opset_import: ["" : 17, "local" : 1]>
        g (bool c, float[n, 64] x) => (float[n, 64] z) {{
            y = If (c) <then_branch = t () => (float[n, 64] p) {{ p = MatMul (x, w) }},
                        else_branch = e () => (float[n, 64] q) {{ two = Add (one, one) q = Mul (x, two) }}>
            z = local.twice (y)
        }}
        <opset_import: ["" : 17], domain: "local">
        twice (a) => (b) {{ three = Constant <value = float {{3}}> () five = Add (three, three) b = Mul (a, five) }}"""
    proto = parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(weights(64, 64), "w"))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    return proto


@pytest.mark.parametrize("ir_version", [8, 10])
def test_nodes_in_bodies_and_functions_have_stories_too(cli, tmp_path, ir_version):
    model, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    onnx.save(branching(ir_version), model)
    assert cli("run", model, "-p", "fold,dce,quantize-insert", "-o", out, "--provenance").code == 0
    onnx.checker.check_model(out, full_check=True)
    assert "made to read other values by quantize-insert" in cli("explain", out, "p").out
    assert "made to read other values by fold" in cli("explain", out, "q").out
    assert "made to read other values by fold" in cli("explain", out, "b").out
    assert cli("replay", out, "--input", model).out == "the same bytes\n"


def test_weights_in_another_file_are_replayed(cli, tmp_path, external):
    out = tmp_path / "out.onnx"
    assert cli("run", external, "-p", "fold,dce,quantize-insert", "-o", out, "--provenance").code == 0
    assert cli("replay", out, "--input", external).out == "the same bytes\n"


def test_a_run_in_place_is_replayed_from_a_copy(cli, tmp_path, model):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    assert cli("run", model, "-p", "fold,dce", "--in-place", "--provenance").code == 0
    assert model.read_bytes() != copy.read_bytes()
    assert cli("replay", model, "--input", copy).out == "the same bytes\n"


def test_a_run_that_changes_nothing_leaves_no_entry(cli, tmp_path):
    model, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", infos[:1], infos[1:])
    onnx.save(helper.make_model(graph, ir_version=10), model)
    for pipeline in ("", "fold,dce", "guard{max-abs=0}(fold)"):
        assert cli("run", model, "-p", pipeline, "-o", out, "--provenance").code == 0
        assert out.read_bytes() == onnx.load(model).SerializeToString(deterministic=True)


def test_a_missing_input_is_named(cli, tmp_path: Path, model: Path):
    out = tmp_path / "out.onnx"
    cli("run", model, "-p", "fold", "-o", out, "--provenance")
    code, _, err = cli("replay", out, "--input", tmp_path / "gone.onnx")
    assert (code, err.count("\n")) == (2, 1)
    assert "gone.onnx" in err
