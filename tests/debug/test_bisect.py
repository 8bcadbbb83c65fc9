"""bisect, reduce and debug find the harm, and the smallest model that shows it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import onnxpress as op

from .conftest import call_with, installed
from .harmful import Harm

ASKED = ("--when", "rel-l2>0.1")


@pytest.mark.parametrize("nth", [1, 5, 12])
def test_the_pass_the_application_and_the_node_are_named(cli, tmp_path, scales, nth):
    out = tmp_path / "slice.onnx"
    asked = ("-p", f"fold,dce,harm{{nth={nth}}},dce", *ASKED, "-o", out)
    code, stdout, _ = cli("bisect", scales, *asked)
    assert code == 0
    assert stdout.splitlines()[:3] == [
        f"pass 3 of 4: harm{{nth={nth}}}" if nth > 1 else "pass 3 of 4: harm",
        f"application {nth} of 12 of rule 'stretch'",
        f"node scale{nth - 1}",
    ]
    small = onnx.load(out)
    assert f"scale{nth - 1}" in [node.name for node in small.graph.node]
    assert out.with_suffix(".npz").is_file()
    onnx.checker.check_model(small)


def test_a_pass_that_claims_no_rule_is_bisected_by_edits(cli, scales):
    code, out, _ = cli("bisect", scales, "-p", "fold,harm{nth=7 claims=false}", *ASKED, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["position"], found["by"], found["rule"], found["node"]) == (2, "harm", "", "scale6")


def test_harm_that_no_rule_claims_is_not_laid_to_the_application_before_it(cli, scales):
    found = json.loads(cli("bisect", scales, "-p", "spoil{how=behind}", *ASKED, "--json").out)
    assert (found["rule"], found["application"], found["node"]) == ("", 0, "scale5")


def test_a_broken_promise_before_the_guilty_pass_is_no_hindrance(cli, scales):
    """`spoil` calls itself EXACT, which is wrong by little; only measuring would tell, and nobody asked for it."""
    found = json.loads(cli("bisect", scales, "-p", "spoil{by=1.0001},harm{nth=3}", *ASKED, "--json").out)
    assert (found["position"], found["node"]) == (2, "scale2")


def test_an_error_that_takes_two_passes_is_shown_by_both(cli, tmp_path, scales):
    out = tmp_path / "slice.onnx"
    pipeline = "spoil{by=1.06},dce,spoil{by=1.07}"
    code, stdout, _ = cli("bisect", scales, "-p", pipeline, *ASKED, "-o", out)
    assert code == 0
    assert stdout.splitlines() == [
        "pass 3 of 3: spoil{by=1.07}",
        "node scale5",
        f"slice: {out} (1 node), shown by {pipeline}",
    ]
    shown = ("-p", pipeline, *ASKED, "--data", out.with_suffix(".npz"))
    assert cli("reduce", out, *shown, "-o", tmp_path / "again.onnx").code == 0


def test_of_many_applications_a_few_runs_are_enough(cli, scales, monkeypatch):
    runs = 0
    run = Harm.run

    def counted(self, graph, ctx):
        nonlocal runs
        runs += 1
        run(self, graph, ctx)

    monkeypatch.setattr(Harm, "run", counted)
    asked = ("-p", "repeat{times=20}(harm{nth=7})", "--when", "rel-l2>20", "--trials", 1)
    found = json.loads(cli("bisect", scales, *asked, "--json").out)
    assert (found["rule"], found["applications"], found["node"]) == ("stretch", 240, "scale6")
    assert found["application"] == 12 * 11 + 7  # 1.3 ** 12 = 23.3 is the first beyond 21
    assert runs <= 20 * 8


@pytest.mark.parametrize(("how", "when"), [("break", "invalid"), ("refuse", "refused"), ("break", "refused")])
def test_models_that_others_refuse_are_bisected(cli, scales, how, when):
    found = json.loads(cli("bisect", scales, "-p", f"fold,spoil{{how={how}}},dce", "--when", when, "--json").out)
    assert (found["position"], found["rule"], found["node"]) == (2, how, "scale5")
    assert found["slice_nodes"] == 1


def test_a_pass_that_fails_is_named_with_a_slice(cli, tmp_path, long_chain):
    out = tmp_path / "slice.onnx"
    code, stdout, _ = cli("bisect", long_chain, "-p", "dce,crash-at-sin", "--when", "fails=KeyError", "-o", out)
    assert (code, stdout.splitlines()) == (0, ["pass 2 of 2: crash-at-sin", f"slice: {out} (2 nodes)"])
    assert cli("bisect", long_chain, "-p", "dce,crash-at-sin", "--when", "fails=IndexError").code == 1


def test_a_broken_promise_is_a_failure_too(cli, scales):
    code, out, _ = cli("bisect", scales, "-p", "dce,spoil", "--when", "fails=EXACT")
    assert (code, out.splitlines()[0]) == (0, "pass 2 of 2: spoil")


def test_a_condition_that_holds_before_any_pass_is_exit_code_one(cli, scales):
    code, out, err = cli("bisect", scales, "-p", "spoil", "--when", "rel-l2<1")
    assert (code, out) == (1, "")
    assert "before any pass" in err


def test_inside_a_combinator_the_pass_that_did_it_is_named(cli, scales):
    code, out, _ = cli("bisect", scales, "-p", "dce,repeat{times=1}(fold,harm{nth=3})", *ASKED, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["position"], found["by"], found["node"]) == (2, "harm", "scale2")


def test_a_condition_that_does_not_hold_is_exit_code_one(cli, tmp_path, scales):
    out = tmp_path / "slice.onnx"
    code, stdout, err = cli("bisect", scales, "-p", "fold,dce", *ASKED, "-o", out)
    assert (code, stdout, err.count("\n")) == (1, "", 1)
    assert "does not hold" in err
    assert not out.exists()


@pytest.mark.parametrize("when", ["rel-l3>1", "rel-l2>x", "explodes", "rel-l2=1"])
def test_a_condition_that_cannot_be_read_is_a_mistake(cli, scales, when):
    code, _, err = cli("bisect", scales, "-p", "fold", "--when", when)
    assert (code, err.count("\n")) == (2, 1)
    assert "--when" in err


def test_a_process_that_is_killed_is_reduced(tmp_path, scales):
    """In processes that know the pass from a distribution."""
    site = installed(tmp_path / "site")
    out = tmp_path / "small.onnx"
    asked = ("-p", "dce,spoil{how=kill}", "--when", "crash")
    code, words = call_with(site, "reduce", scales, *asked, "-o", out, "--trials", 15)
    assert code == 0, words
    assert "scale5" in [node.name for node in onnx.load(out).graph.node]
    assert len(onnx.load(out).graph.node) <= 3
    code, words = call_with(site, "reduce", scales, "-p", "dce", "--when", "crash", "-o", out)
    assert code == 1
    assert "does not hold" in words


@pytest.mark.parametrize("command", ["bisect", "reduce"])
def test_data_of_the_same_name_are_not_overwritten(cli, tmp_path, scales, command):
    data = tmp_path / "case.npz"
    np.savez(data, **{"x@0": np.ones((2, 16), np.float32)})
    before = data.read_bytes()
    asked = ("-p", "harm", *ASKED, "--data", data)
    for out in (tmp_path / "case.onnx", tmp_path / "other.npz"):
        code, _, err = cli(command, scales, *asked, "-o", out)
        assert (code, err.count("\n")) == (2, 1)
        assert not out.exists()
    assert data.read_bytes() == before


def test_reduce_leaves_the_node_that_matters(cli, tmp_path, scales):
    out = tmp_path / "small.onnx"
    code, stdout, _ = cli("reduce", scales, "-p", "harm{nth=1}", "--when", "rel-l2>0.1", "-o", out)
    assert code == 0
    assert stdout.startswith(f"{out}: 1 of 24 nodes")
    small = onnx.load(out)
    assert len(small.graph.node) == 1
    report = cli("run", out, "-p", "fold", "--data", out.with_suffix(".npz"))
    assert report.code == 0


def test_debug_ranks_the_harm_first_and_calls_what_carries_it_clean(cli, tmp_path, scales):
    model = op.load(scales)
    op.PassManager([Harm(nth=5)]).run(model)
    harmed = tmp_path / "harmed.onnx"
    op.save(model, harmed)
    code, out, _ = cli("debug", scales, harmed, "--json")
    assert code == 0
    (place,) = json.loads(out)["places"]
    assert place["node"] == "scale4"
    assert place["born"] == pytest.approx(0.3, rel=1e-3)
    assert place["cost"] == pytest.approx(0.3, rel=1e-3)
    assert place["mechanism"].startswith("changed constant: w4 is off by rel-l2 0.3")


def test_debug_tells_pruned_weights(cli, tmp_path, scales):
    model = onnx.load(scales)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w8")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:8] = 0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "w8"))
    pruned = tmp_path / "pruned.onnx"
    onnx.save(model, pruned)
    out = cli("debug", scales, pruned).out
    assert "pruned energy: 50% of w8 is zero now" in out
    assert "scale8" in out.splitlines()[3]


def test_debug_of_equal_models(cli, scales):
    assert "No error is born anywhere." in cli("debug", scales, scales).out


def test_debug_tells_saturation(cli, tmp_path, scales):
    model = onnx.load(scales)
    at = next(index for index, node in enumerate(model.graph.node) if node.name == "scale6")
    node = model.graph.node[at]
    extra = [
        onnx.helper.make_node("QuantizeLinear", [node.input[0], "s", "z"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"]),
    ]
    node.input[0] = "dq"
    for one in reversed(extra):
        model.graph.node.insert(at, one)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1e-3), "s"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(0), "z"))
    quantized = tmp_path / "quantized.onnx"
    onnx.save(model, quantized)
    (place,) = json.loads(cli("debug", scales, quantized, "--json").out)["places"]
    assert place["node"] == "scale6"
    assert place["mechanism"].startswith("saturation: ")


def test_debug_tells_clipping_by_attributes_too(cli, tmp_path, scales):
    model = onnx.load(scales)
    at = next(index for index, node in enumerate(model.graph.node) if node.name == "scale6")
    model.opset_import[0].version = 10
    old = tmp_path / "old.onnx"
    onnx.save(model, old)
    node = model.graph.node[at]
    model.graph.node.insert(at, onnx.helper.make_node("Clip", [node.input[0]], ["clipped"], min=0.0, max=1e-3))
    model.graph.node[at + 1].input[0] = "clipped"
    clipped = tmp_path / "clipped.onnx"
    onnx.save(model, clipped)
    (place,) = json.loads(cli("debug", old, clipped, "--json").out)["places"]
    assert place["mechanism"].startswith("clipping: ")
    assert not place["mechanism"].startswith("clipping: 0%")
